package httpd

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tanodb/tanodb/internal/mapreduce"
	"github.com/tanodb/tanodb/kv"
)

// The phases of the tests.
const (
	valuesPhase = `{"map":{"language":"erlang","module":"riak_kv_mapreduce","function":"map_object_value","keep":true}}`
	jsonPhase   = `{"map":{"language":"javascript","name":"Riak.mapValuesJson"}}`
	sortPhase   = `{"reduce":{"language":"erlang","module":"riak_kv_mapreduce","function":"reduce_sort"}}`
	sumPhase    = `{"reduce":{"language":"javascript","name":"Riak.reduceSum"}}`
)

// readParts is the bodies of the parts of multipart/mixed; a part that is multipart/mixed in
// turn is a list, and other ones begin with these of their headers.
func readParts(t *testing.T, contentType string, body io.Reader, headers ...string) []any {
	t.Helper()
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil || media != "multipart/mixed" {
		t.Fatalf("content type %q: %v", contentType, err)
	}
	all := []any{}
	for r := multipart.NewReader(body, params["boundary"]); ; {
		part, err := r.NextRawPart()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if inner := part.Header.Get("Content-Type"); strings.HasPrefix(inner, "multipart/") {
			all = append(all, readParts(t, inner, part, headers...))
			continue
		}
		b, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, name := range headers {
			text += part.Header.Get(name) + " "
		}
		all = append(all, text+string(b))
	}
}

func TestMapReduce(t *testing.T) {
	c := newClient(t, newFake())
	for _, n := range []string{"3", "1", "2"} {
		c.want(204, "PUT", "/buckets/b/keys/k"+n, n, plain)
	}
	const inputs = `{"inputs":[["b","k3"],["b","k1"],["b","k2"],["b","none"]],"query":[`
	for job, want := range map[string]string{
		inputs + valuesPhase + `]}`:                                   `["3","1","2"]`,
		inputs + valuesPhase + `,` + sortPhase + `]}`:                 `[["3","1","2"],["1","2","3"]]`,
		`{"inputs":"b","query":[` + jsonPhase + `,` + sumPhase + `]}`: `[6]`,
		`{"inputs":"none","query":[]}`:                                `[]`,
	} {
		w := c.want(200, "POST", "/mapred", job, asJSON)
		c.header(w, "Content-Type", "application/json")
		c.body(w, want)
	}
	w := c.want(200, "POST", "/mapred?chunked=true", inputs+valuesPhase+`,`+sortPhase+`]}`, "Content-Type: application/json; charset=utf-8")
	boundary, _ := strings.CutPrefix(w.Header().Get("Content-Type"), "multipart/mixed; boundary=")
	want := "\r\n--B\r\nContent-Type: application/json\r\n\r\n" + `{"phase":0,"data":["3","1","2"]}` +
		"\r\n--B\r\nContent-Type: application/json\r\n\r\n" + `{"phase":1,"data":["1","2","3"]}` + "\r\n--B--\r\n"
	c.body(w, strings.ReplaceAll(want, "B", boundary))
	w = c.want(200, "POST", "/mapred?chunked=true", `{"inputs":"none","query":[`+valuesPhase+`]}`, asJSON)
	if got := readParts(t, w.Header().Get("Content-Type"), w.Body); len(got) != 0 {
		t.Errorf("parts of nothing: %q", got)
	}
	w = c.want(200, "GET", "/mapred", "")
	c.header(w, "Content-Type", "text/html")
	if !strings.Contains(w.Body.String(), `"inputs"`) {
		t.Errorf("no usage: %s", w.Body)
	}
	c.body(c.want(200, "HEAD", "/mapred", ""), "")
	c.header(c.want(405, "PUT", "/mapred", "{}", asJSON), "Allow", "GET, HEAD, POST")
	if w := c.want(200, "GET", "/", ""); !strings.Contains(w.Body.String(), `"riak_kv_wm_mapred":"/mapred"`) || !strings.Contains(w.Header().Get("Link"), `</mapred>; rel="riak_kv_wm_mapred"`) {
		t.Errorf("the resources do not name it: %s", w.Body)
	}
}

func TestMapReduceThatFails(t *testing.T) {
	f := newFake()
	c := newClient(t, f)
	c.want(204, "PUT", "/buckets/b/keys/two", "a", plain)
	c.want(204, "PUT", "/buckets/b/keys/two", "b", plain)
	job := `{"inputs":"b","query":[` + valuesPhase + `]}`
	siblings := `{"phase":0,"error":"there are 2 siblings, and map_object_value takes one value; map_object_value_list takes all","input":"[\"b\",\"two\"]","type":"riak_kv_mapreduce:map_object_value"}` + "\n"
	for _, tc := range []struct {
		status      int
		job, want   string
		contentType string
	}{
		{415, job, `{"error":"a job must be application/json"}` + "\n", "Content-Type: application/x-erlang-binary"},
		{415, job, `{"error":"a job must be application/json"}` + "\n", "Content-Type: /"},
		{400, "{", `{"error":"job is no JSON: unexpected end of JSON input"}` + "\n", asJSON},
		{400, "", `{"error":"job is no JSON: unexpected end of JSON input"}` + "\n", asJSON},
		{400, `{"inputs":"b","query":[{"dance":{}}]}`, `{"error":"query[0].dance is no kind of phase: there are map, reduce and link"}` + "\n", asJSON},
		{500, job, siblings, asJSON},
		{404, strings.Replace(job, `"b"`, `["none","b"]`, 1), `{"error":"inputs: unknown bucket type: \"none\""}` + "\n", asJSON},
	} {
		for _, path := range []string{"/mapred", "/mapred?chunked=true"} {
			w := c.want(tc.status, "POST", path, tc.job, tc.contentType)
			c.header(w, "Content-Type", "application/json")
			c.body(w, tc.want)
		}
	}
	for status, err := range map[int]error{500: errors.New("broken"), 503: kv.ErrOverload} {
		f.fail = err
		c.body(c.want(status, "POST", "/mapred", job, asJSON), `{"error":"inputs: `+err.Error()+`"}`+"\n")
	}
	f.fail = kv.ErrTimeout
	c.body(c.want(503, "POST", "/mapred", job, asJSON), `{"error":"timeout"}`+"\n")
	c.body(c.want(400, "POST", "/mapred", strings.Repeat(" ", mapreduce.MaxJob+1), asJSON), `{"error":"job is 16777217 bytes long; the limit is 16777216"}`+"\n")
}

// TestAStreamOfResultsBreaksOff is about errors that come after the status.
func TestAStreamOfResultsBreaksOff(t *testing.T) {
	f := newFake()
	c := newClient(t, f)
	for i := range kv.DefaultPage + 1 {
		c.want(204, "PUT", fmt.Sprintf("/buckets/b/keys/%0100d", i), "1", plain)
	}
	s := httptest.NewServer(c.handler)
	defer s.Close()
	f.fail, f.failLate = kv.ErrOverload, true
	post := func(job string) (int, string, error) {
		answer, err := http.Post(s.URL+"/mapred?chunked=true", "application/json", strings.NewReader(job))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		b, err := io.ReadAll(answer.Body)
		return answer.StatusCode, string(b), err
	}
	status, body, err := post(`{"inputs":"b","query":[` + sortPhase + `]}`)
	if status != 503 || err != nil || body != `{"error":"inputs: overload"}`+"\n" {
		t.Errorf("a job of which nothing has gone out: status %d, %v, %s", status, err, body)
	}
	status, body, err = post(`{"inputs":"b","query":[]}`)
	if status != 200 || err == nil || !strings.Contains(body, `{"phase":0,"data":[["b","000`) || !strings.HasSuffix(body, "\r\n\r\n"+`{"error":"inputs: overload"}`) {
		t.Errorf("a job of which a part has gone out: status %d, %v, %d bytes", status, err, len(body))
	}
}

// TestMapReduceOnANode runs jobs on a real one.
func TestMapReduceOnANode(t *testing.T) {
	c := realClient(t)
	for i := range 40 {
		c.want(204, "PUT", fmt.Sprintf("/buckets/b/keys/k%02d", i), fmt.Sprint(i), plain, fmt.Sprintf("X-Riak-Index-N_int: %d", i),
			fmt.Sprintf(`Link: </buckets/b/keys/k%02d>; riaktag="next"`, (i+1)%40))
	}
	c.want(204, "DELETE", "/buckets/b/keys/k39", "")
	for job, want := range map[string]string{
		`{"inputs":"b","query":[` + jsonPhase + `,` + sumPhase + `]}`:                                                                                  `[741]`,
		`{"inputs":{"bucket":"b","index":"n_int","start":10,"end":12},"query":[{"link":{"tag":"next"}},` + jsonPhase + `,` + sortPhase + `]}`:          `[11,12,13]`,
		`{"inputs":{"bucket":"b","key_filters":[["tokenize","k",1],["string_to_int"],["less_than",3]]},"query":[` + jsonPhase + `,` + sortPhase + `]}`: `[0,1,2]`,
		`{"inputs":[["b","k38"],["b","k39"]],"query":[` + jsonPhase + `]}`:                                                                             `[38,{"not_found":{"bucket":"b","key":"k39","keydata":"undefined"}}]`,
	} {
		c.body(c.want(200, "POST", "/mapred", job, asJSON), want)
	}
	w := c.want(200, "GET", "/buckets/b/keys/k00/b,next,0/_,_,_", "")
	if got := fmt.Sprintf("%q", readParts(t, w.Header().Get("Content-Type"), w.Body, "Location")); got != `[["/buckets/b/keys/k02 2"]]` {
		t.Error(got)
	}
}
