// Package mapreduce runs Riak's MapReduce jobs: a job names keys, and phases that turn
// what is there into results, each phase fed by the one before it.
//
//	{"inputs": INPUTS, "query": [PHASE, …], "timeout": MILLISECONDS}
//
//	INPUTS  "BUCKET"  ["TYPE","BUCKET"]                     all keys of a bucket
//	        {"bucket": …, "key_filters": [FILTER, …]}       those that pass; see filters.go
//	        {"bucket": …, "index": FIELD, "key": TERM}      what a query of an index finds
//	        {"bucket": …, "index": FIELD, "start": TERM, "end": TERM}
//	        [["BUCKET","KEY"], ["BUCKET","KEY",DATA], ["BUCKET","KEY",DATA,"TYPE"], …]
//
//	PHASE   {"map": {FUNCTION, "arg": ANY, "keep": true}}   for each key; see maps.go
//	        {"reduce": {FUNCTION, "arg": ANY}}              for all at once; see reduces.go
//	        {"link": {"bucket": …, "tag": …}}               the keys that links lead to
//
// What a phase keeps is a part of the answer; unless a phase says otherwise, only the
// last one keeps. A FUNCTION is one that Riak has built in, by its name in Erlang or in
// JavaScript, and it is carried out natively: there is no engine for functions that come
// as source.
//
//	inputs ──▶ map ──▶ link ──▶ map ──▶ reduce ──▶ …
//	  page      16 fetches at once        holds what it must, until no more comes
//	            │                         │
//	            └───────── kept ──────────┴──▶ parts of the answer
//
// A piece of the inputs goes through all phases before the next one is asked for, so
// that a job over a large bucket needs no more memory than its reduces hold.
package mapreduce

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/tanodb/tanodb/kv"
)

// The limits of jobs.
const (
	MaxJob     = 16 << 20 // bytes in a job
	MaxInputs  = 100_000  // keys that a job names one by one
	MaxPhases  = 32
	MaxArg     = 64 << 10  // bytes in the argument of a phase, and in those of a key filter
	MaxJSON    = 4 << 20   // bytes in a value that a phase parses
	MaxHeld    = 64 << 20  // bytes, about, that each reduce of a job holds, and each answer that is kept whole
	MaxJobs    = 32        // that a Runner runs at once
	MaxObjects = 256 << 20 // bytes, about, of the objects that all jobs of a Runner hold
	fetches    = 16        // keys that a job reads at once
	pieceBytes = 1 << 20   // what comes of a map goes on once it is so many
	partBytes  = 64 << 10  // a part of an answer goes out once it has so many
	longInput  = 256       // bytes of an input or value that an error shows
)

// Store is what a job reads.
type Store interface {
	Get(ctx context.Context, k kv.Key, o kv.ReadOptions) (kv.Object, error)
	Keys(ctx context.Context, b kv.Bucket, o kv.ListOptions) (kv.KeyPage, error)
}

// Indexer is a Store that a job can query.
type Indexer interface {
	Index(ctx context.Context, b kv.Bucket, q kv.IndexQuery) (kv.IndexPage, error)
}

// Part is a piece of an answer: results of one phase, as a JSON array.
type Part struct {
	Phase int
	Data  json.RawMessage
}

// Error says where and why a job failed.
type Error struct {
	Phase    int    // its number, from 0
	Function string // what it was to do; empty: the inputs could not be had
	Input    string // the JSON of what it was to do it with; empty: it was no single one
	Cause    error
}

func (e *Error) Error() string {
	where := "inputs"
	if e.Function != "" {
		where = "phase " + strconv.Itoa(e.Phase) + ", " + e.Function
	}
	if e.Input != "" {
		where += ", of " + e.Input
	}
	return where + ": " + e.Cause.Error()
}

// Unwrap makes errors.Is find the Cause.
func (e *Error) Unwrap() error { return e.Cause }

// ErrorJSON is an error as Riak's interfaces show it: {"phase":0,"error":…,"input":…}, or
// {"error":…} of one that is of no phase.
func ErrorJSON(err error) []byte {
	shown := struct {
		Phase *int   `json:"phase,omitempty"`
		Error string `json:"error"`
		Input string `json:"input,omitempty"`
		Type  string `json:"type,omitempty"`
	}{Error: err.Error()}
	if errors.Is(err, kv.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) {
		shown.Error = "timeout" // clients know the word
	} else if at, ok := errors.AsType[*Error](err); ok && at.Function != "" {
		shown.Phase, shown.Error, shown.Input, shown.Type = &at.Phase, at.Cause.Error(), at.Input, at.Function
	}
	b, err := json.Marshal(shown)
	if err != nil {
		return []byte(`{"error":"an error that cannot be shown"}`)
	}
	return b
}

// Runner runs the jobs of a server.
type Runner struct {
	store   Store
	running atomic.Int32 // Invariant: 0 <= running <= MaxJobs
	memory  budget
}

// New makes a Runner of a store. If that is an Indexer too, jobs can query it.
func New(s Store) *Runner { return &Runner{store: s} }

// Run runs a job, and hands on the parts of its answer as they come. An error of emit ends
// it, and is returned as it is.
func (r *Runner) Run(ctx context.Context, j *Job, emit func(Part) error) error {
	if r.running.Add(1) > MaxJobs {
		r.running.Add(-1)
		return fmt.Errorf("%w: %d jobs are in progress", kv.ErrOverload, MaxJobs)
	}
	defer r.running.Add(-1)
	ctx, cancel := context.WithTimeout(ctx, j.timeout)
	defer cancel()
	s := newSource(r.store, &r.memory)
	defer func() { s.release(s.held) }()
	err := j.run(ctx, s, emit)
	if ctx.Err() == context.DeadlineExceeded {
		return kv.ErrTimeout // whatever it was that noticed first
	}
	return err
}

// Collect runs a job and returns its whole answer: the results of the phase that keeps, or
// if there are several, an array of those of each.
func (r *Runner) Collect(ctx context.Context, j *Job) ([]byte, error) {
	kept := j.kept()
	size, all := 0, make([]strings.Builder, len(kept))
	err := r.Run(ctx, j, func(p Part) error {
		if size += len(p.Data); size > MaxHeld {
			return &kv.InvalidError{What: "answer", Problem: "is more than " + strconv.Itoa(MaxHeld) + " bytes long; ask for it in pieces"}
		}
		for i, phase := range kept {
			if phase != p.Phase || len(p.Data) == len("[]") {
				continue
			}
			if all[i].Len() > 0 {
				all[i].WriteByte(',')
			}
			all[i].Write(p.Data[1 : len(p.Data)-1])
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	for i := range all {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("[" + all[i].String() + "]")
	}
	if len(kept) == 1 {
		return []byte(b.String()), nil
	}
	return []byte("[" + b.String() + "]"), nil
}
