package pb

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb/internal/server/riakpb"
)

// serverVersion is the version of Riak that clients are told. They choose by it
// what they may ask for, and take anything from 2.1.2 on for one that has all.
// 3.2 is the last whose interface is the one served here: bucket types,
// node_confirms and HyperLogLogs are there, and search and JavaScript are not.
const serverVersion = "3.2.0"

// handler serves the requests of one code.
type handler struct {
	name string // of the message, as metrics and errors show it

	// serve answers the request into c.out, or returns the error that is the
	// answer. Nil: the request is known and not supported.
	serve func(c *conn, r *request) error

	why string // it is not supported, or what takes its place
}

// handlers are the requests that are known, by code.
var handlers = [256]handler{
	riakpb.PingReq:          {name: "ping", serve: (*conn).ping},
	riakpb.GetClientIDReq:   {name: "get_client_id", serve: (*conn).getClientID},
	riakpb.SetClientIDReq:   {name: "set_client_id", serve: (*conn).setClientID},
	riakpb.ServerInfoReq:    {name: "server_info", serve: (*conn).serverInfo},
	riakpb.GetReq:           {name: "get", serve: (*conn).get},
	riakpb.PutReq:           {name: "put", serve: (*conn).put},
	riakpb.DelReq:           {name: "del", serve: (*conn).del},
	riakpb.ListBucketsReq:   {name: "list_buckets", serve: (*conn).listBuckets},
	riakpb.ListKeysReq:      {name: "list_keys", serve: (*conn).listKeys},
	riakpb.GetBucketReq:     {name: "get_bucket", serve: (*conn).getBucket},
	riakpb.SetBucketReq:     {name: "set_bucket", serve: (*conn).setBucket},
	riakpb.MapRedReq:        {name: "mapred", serve: (*conn).mapRed},
	riakpb.IndexReq:         {name: "index", serve: (*conn).index},
	riakpb.ResetBucketReq:   {name: "reset_bucket", serve: (*conn).resetBucket},
	riakpb.GetBucketTypeReq: {name: "get_bucket_type", serve: (*conn).getType},
	riakpb.SetBucketTypeReq: {name: "set_bucket_type", serve: (*conn).setType},
	riakpb.PreflistReq:      {name: "preflist", serve: (*conn).preflist},
	riakpb.CounterUpdateReq: {name: "counter_update", serve: (*conn).updateCounter},
	riakpb.CounterGetReq:    {name: "counter_get", serve: (*conn).getCounter},
	riakpb.DataFetchReq:     {name: "dt_fetch", serve: (*conn).fetchData},
	riakpb.DataUpdateReq:    {name: "dt_update", serve: (*conn).updateData},
	riakpb.RingReq:          {name: "ring", serve: (*conn).ring},

	riakpb.CSBucketReq:       {name: "cs_bucket", why: "folds over a bucket, which Riak CS makes, are not supported"},
	riakpb.SearchQueryReq:    {name: "search_query", why: "search, which Riak 3.0 has removed too, is not supported"},
	riakpb.IndexGetReq:       {name: "search_index_get", why: "search, which Riak 3.0 has removed too, is not supported"},
	riakpb.IndexPutReq:       {name: "search_index_put", why: "search, which Riak 3.0 has removed too, is not supported"},
	riakpb.IndexDeleteReq:    {name: "search_index_delete", why: "search, which Riak 3.0 has removed too, is not supported"},
	riakpb.SchemaGetReq:      {name: "search_schema_get", why: "search, which Riak 3.0 has removed too, is not supported"},
	riakpb.SchemaPutReq:      {name: "search_schema_put", why: "search, which Riak 3.0 has removed too, is not supported"},
	riakpb.CoverageReq:       {name: "coverage", why: "coverage plans are not supported"},
	riakpb.ToggleEncodingReq: {name: "toggle_encoding", why: "the native encoding of Erlang is not supported"},
	riakpb.ProxyGetReq:       {name: "proxy_get", why: "replication between clusters is not supported"},
	riakpb.RTEnqueueReq:      {name: "rt_enqueue", why: "replication between clusters is not supported"},
	riakpb.FetchReq:          {name: "fetch", why: "replication between clusters is not supported"},
	riakpb.PushReq:           {name: "push", why: "replication between clusters is not supported"},
	riakpb.MembershipReq:     {name: "membership", why: "replication between clusters is not supported"},

	riakpb.AuthReq:  {name: "auth", serve: (*conn).auth},
	riakpb.StartTLS: {name: "start_tls", serve: (*conn).startTLS},
}

const noSecurity = "Security not enabled; STARTTLS not allowed."

// The requests that come in ranges of codes: time series, and folds over the
// trees of anti-entropy.
func init() {
	for code := riakpb.FirstTimeSeriesReq; code <= riakpb.LastTimeSeriesReq; code++ {
		handlers[code] = handler{name: "time_series", why: "time series, another product than Riak KV, are not supported"}
	}
	for code := riakpb.FirstAAEFold; code <= riakpb.LastAAEFold; code++ {
		handlers[code] = handler{name: "aae_fold", why: "folds over anti-entropy trees are not supported"}
	}
}

// serve serves one request. The error is the answer, where there is one.
func serve(c *conn, r *request) error {
	h := &handlers[r.code]
	if err := c.admit(r); err != nil {
		return err
	}
	r.admitted = true
	switch {
	case h.serve != nil:
		return h.serve(c, r)
	case h.why != "":
		return wireError(fmt.Sprintf("message code %d (%s): %s by this server", r.code, h.name, h.why))
	}
	return wireError(fmt.Sprintf("Unknown message code: %d", r.code))
}

// decode reads a message by the generated code.
func decode(r *request, m proto.Message) error {
	if err := proto.Unmarshal(r.body, m); err != nil {
		return decodingError(err.Error())
	}
	return nil
}

func (c *conn) ping(*request) error {
	c.out.empty(riakpb.PingResp)
	return nil
}

// getClientID answers with what the client has said it is. Nothing depends on
// it: the vnodes name the writers of versions, as they do in Riak since 1.0.
func (c *conn) getClientID(*request) error {
	id := c.clientID
	if id == nil {
		id = make([]byte, 4) // Riak's answer before any id was set
	}
	return c.out.message(riakpb.GetClientIDResp, &riakpb.RpbGetClientIdResp{ClientId: id})
}

func (c *conn) setClientID(r *request) error {
	var m riakpb.RpbSetClientIdReq
	if err := decode(r, &m); err != nil {
		return err
	}
	if len(m.ClientId) > maxClientID {
		return wireError(fmt.Sprintf("client id is %d bytes long; the limit is %d", len(m.ClientId), maxClientID))
	}
	c.clientID = m.ClientId
	c.out.empty(riakpb.SetClientIDResp)
	return nil
}

func (c *conn) serverInfo(*request) error {
	return c.out.message(riakpb.ServerInfoResp, &riakpb.RpbGetServerInfoResp{
		Node: []byte(c.server.node.Name()), ServerVersion: []byte(serverVersion),
	})
}

// ring serves TanoRingReq: who this node is and, unless the client knows it
// already, who owns what.
func (c *conn) ring(r *request) error {
	var m riakpb.TanoRingReq
	if err := decode(r, &m); err != nil {
		return err
	}
	answer := &riakpb.TanoRingResp{Node: []byte(c.server.node.Name())}
	if c.server.o.Cluster == nil {
		return c.out.message(riakpb.RingResp, answer)
	}
	epoch, owners := c.server.o.Cluster.Owners()
	answer.Epoch = &epoch
	if m.Epoch == nil || m.GetEpoch() != epoch {
		number := map[string]uint32{}
		for _, name := range owners {
			n, known := number[name]
			if !known {
				n = uint32(len(answer.Nodes))
				number[name] = n
				answer.Nodes = append(answer.Nodes, []byte(name))
			}
			answer.Owners = append(answer.Owners, n)
		}
	}
	return c.out.message(riakpb.RingResp, answer)
}
