package pb

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tanodb/tanodb/internal/mapreduce"
	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

func jobOf(job string) *riakpb.RpbMapRedReq {
	return &riakpb.RpbMapRedReq{Request: []byte(job), ContentType: []byte(jobJSON)}
}

// The phases of the tests.
const (
	values  = `{"map":{"language":"erlang","module":"riak_kv_mapreduce","function":"map_object_value","keep":true}}`
	sorted  = `{"reduce":{"language":"erlang","module":"riak_kv_mapreduce","function":"reduce_sort"}}`
	counted = `{"reduce":{"language":"erlang","module":"riak_kv_mapreduce","function":"reduce_count_inputs"}}`
)

// results sends a job, and reads its answer to the end.
func (c *client) results(job string) []string {
	c.Helper()
	c.send(frameOf(c, riakpb.MapRedReq, jobOf(job)))
	var all []string
	for {
		var m riakpb.RpbMapRedResp
		c.await(riakpb.MapRedResp, &m)
		if m.GetDone() {
			if m.Phase != nil || m.Response != nil {
				c.Errorf("the last message has more in it: %v", &m)
			}
			return all
		}
		all = append(all, fmt.Sprintf("%d %s", m.GetPhase(), m.Response))
	}
}

func TestMapReduce(t *testing.T) {
	f := &fake{}
	c := dial(t, f, Options{})
	for _, n := range []string{"3", "1", "2"} {
		c.ask(riakpb.PutReq, putOf("k"+n, n), riakpb.PutResp, &riakpb.RpbPutResp{})
	}
	for job, want := range map[string]string{
		`{"inputs":[["b","k1"],["b","k2"],["b","k3"]],"query":[` + values + `,` + sorted + `]}`:     `[0 ["1","2","3"] 1 ["1","2","3"]]`,
		`{"inputs":[["b","k1"]],"query":[` + values + `]}`:                                          `[0 ["1"]]`,
		`{"inputs":[["b","none"]],"query":[` + values + `]}`:                                        `[]`,
		`{"inputs":[["b","k1"]],"query":[]}`:                                                        `[0 [["b","k1"]]]`,
		`{"inputs":{"bucket":"b","index":"$key","start":"k2","end":"k9"},"query":[` + sorted + `]}`: `[0 [["b","k2"],["b","k3"]]]`,
	} {
		if got := fmt.Sprint(c.results(job)); got != want {
			t.Errorf("%s: %s, want %s", job, got, want)
		}
	}
	// A large part goes out by itself, and before it is known that the next one fails.
	c.ask(riakpb.PutReq, putOf("large", strings.Repeat("x", 200<<10)), riakpb.PutResp, &riakpb.RpbPutResp{})
	c.ask(riakpb.PutReq, putOf("two", "a"), riakpb.PutResp, &riakpb.RpbPutResp{})
	c.ask(riakpb.PutReq, putOf("two", "b"), riakpb.PutResp, &riakpb.RpbPutResp{})
	inputs := `["b","large"]`
	for range 20 { // more than one piece of inputs
		inputs += `,["b","k1"]`
	}
	c.send(frameOf(t, riakpb.MapRedReq, jobOf(`{"inputs":[`+inputs+`,["b","two"]],"query":[`+values+`]}`)))
	var m riakpb.RpbMapRedResp
	c.await(riakpb.MapRedResp, &m)
	if want := 200<<10 + len(`[""]`); len(m.Response) != want {
		t.Errorf("%d bytes, want %d", len(m.Response), want)
	}
	c.awaitError(`{"phase":0,"error":"there are 2 siblings, and map_object_value takes one value; map_object_value_list takes all","input":"[\"b\",\"two\"]","type":"riak_kv_mapreduce:map_object_value"}`)
	c.alive()
}

func TestMapReduceThatFails(t *testing.T) {
	f := &fake{}
	c := dial(t, f, Options{})
	job := `{"inputs":"b","query":[` + counted + `]}`
	for text, m := range map[string]*riakpb.RpbMapRedReq{
		"jobs that are application/x-erlang-binary are not supported; send them as application/json": {Request: []byte("x"), ContentType: []byte(jobErlang)},
		`Unsupported content-type "text/plain": jobs are application/json`:                           {Request: []byte("x"), ContentType: []byte("text/plain")},
		"job has no inputs":           jobOf("{}"),
		"No bucket-type named 'none'": jobOf(strings.Replace(job, `"b"`, `["none","b"]`, 1)),
	} {
		c.fails(riakpb.MapRedReq, m, text)
	}
	for _, tc := range []struct {
		fail error
		text string
	}{
		{kv.ErrTimeout, "timeout"}, {kv.ErrOverload, "overload"}, {&kv.QuorumError{Op: "keys", Need: "R", Want: 2, Got: 1}, "{r_val_unsatisfied,2,1}"},
	} {
		f.fail = tc.fail
		c.fails(riakpb.MapRedReq, jobOf(job), tc.text)
	}
	c.fails(riakpb.MapRedReq, jobOf(`{"inputs":[["b","k"]],"query":[`+values+`]}`), `{"phase":0,"error":"keys: R wants 2, got 1","input":"[\"b\",\"k\"]","type":"riak_kv_mapreduce:map_object_value"}`)
	c.fails(riakpb.MapRedReq, &riakpb.RpbMapRedReq{Request: make([]byte, mapreduce.MaxJob+1), ContentType: []byte(jobJSON)}, "job is 16777217 bytes long; the limit is 16777216")
	c.alive()
}

// TestAJobWhoseClientHangsUp ends by itself.
func TestAJobWhoseClientHangsUp(t *testing.T) {
	f := &fake{block: make(chan struct{}), entered: make(chan struct{}, 1)}
	s, addr := serveOn(t, f, Options{})
	c := connect(t, addr)
	c.send(frameOf(t, riakpb.MapRedReq, jobOf(`{"inputs":[["b","k"]],"query":[`+values+`]}`)))
	<-f.entered
	c.Close()
	close(f.block)
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if n := s.connections(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}
