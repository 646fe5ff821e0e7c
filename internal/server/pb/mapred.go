package pb

import (
	"errors"
	"strconv"

	"github.com/tanodb/tanodb/internal/mapreduce"
	"github.com/tanodb/tanodb/internal/server/riakpb"
)

// The content types of jobs.
const (
	jobJSON   = "application/json"
	jobErlang = "application/x-erlang-binary"
)

// mapRed serves RpbMapRedReq: messages of results, each of one phase, and a last one that
// says done. An error ends the answer.
func (c *conn) mapRed(r *request) error {
	var m riakpb.RpbMapRedReq
	if err := decode(r, &m); err != nil {
		return err
	}
	switch contentType := string(m.ContentType); contentType {
	case jobJSON:
	case jobErlang:
		return wireError("jobs that are " + jobErlang + " are not supported; send them as " + jobJSON)
	default:
		return wireError("Unsupported content-type " + strconv.Quote(contentType) + ": jobs are " + jobJSON)
	}
	job, err := mapreduce.Parse(m.Request)
	if err != nil {
		return wireError(err.Error())
	}
	err = c.server.jobs.Run(c.context(), job, func(p mapreduce.Part) error {
		if err := c.still(); err != nil {
			return err
		}
		c.out.begin(riakpb.MapRedResp)
		c.out.varint(1, uint64(p.Phase))
		c.out.bytes(2, p.Data)
		c.out.end()
		return c.flush()
	})
	if err != nil {
		return c.jobFailed(job, err)
	}
	c.out.begin(riakpb.MapRedResp)
	c.out.varint(3, 1)
	c.out.end()
	return nil
}

// jobFailed is the answer to a job that failed: JSON, as Riak's, if a phase did.
func (c *conn) jobFailed(j *mapreduce.Job, err error) error {
	if refused, ok := errors.AsType[wireError](err); ok {
		return refused
	}
	text := reason(err, &story{bucketType: j.BucketType()})
	if at, ok := errors.AsType[*mapreduce.Error](err); ok && at.Function != "" {
		return wireError(mapreduce.ErrorJSON(err))
	}
	return text
}
