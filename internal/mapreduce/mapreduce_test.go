package mapreduce

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/kv/kvtest"
)

// store is a store in memory that can fail, and that counts.
type store struct {
	kvtest.Memory
	fail error // what a get ends with; nil: none
	wait bool  // a get waits until its context ends

	mu    sync.Mutex
	heads int // gets that wanted no data
	now   int // gets in progress
	most  int
}

func (s *store) Get(ctx context.Context, k kv.Key, o kv.ReadOptions) (kv.Object, error) {
	s.mu.Lock()
	s.now++
	s.most = max(s.most, s.now)
	if o.Head {
		s.heads++
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.now--
		s.mu.Unlock()
	}()
	if s.wait {
		<-ctx.Done()
		return kv.Object{}, ctx.Err()
	}
	if s.fail != nil {
		return kv.Object{}, s.fail
	}
	return s.Memory.Get(ctx, k, o)
}

// put stores a value.
func (s *store) put(t testing.TB, bucket, key, data string, more ...kv.Pair) {
	t.Helper()
	v := kv.Value{Data: []byte(data), ContentType: "text/plain"}
	for _, p := range more {
		if strings.HasSuffix(p.Name, "_int") || strings.HasSuffix(p.Name, "_bin") {
			v.Indexes = append(v.Indexes, p)
			continue
		}
		v.Meta = append(v.Meta, p)
	}
	bucketType, name, typed := strings.Cut(bucket, "/")
	if !typed {
		bucketType, name = "", bucket
	}
	if _, err := s.Put(t.Context(), kv.Key{Type: bucketType, Bucket: name, Name: key}, v, kv.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// collect runs a job.
func (s *store) collect(t testing.TB, job string) (string, error) {
	t.Helper()
	j, err := Parse([]byte(job))
	if err != nil {
		return "", err
	}
	b, err := New(s).Collect(t.Context(), j)
	if err == nil && !json.Valid(b) {
		t.Errorf("%s: the answer is no JSON: %s", job, b)
	}
	return string(b), err
}

// erl and js are the phases of functions by their names, with what else is in them.
func erl(kind, function, more string) string {
	return `{"` + kind + `":{"language":"erlang","module":"riak_kv_mapreduce","function":"` + function + `"` + more + `}}`
}

func js(kind, name, more string) string {
	return `{"` + kind + `":{"language":"javascript","name":"Riak.` + name + `"` + more + `}}`
}

func query(inputs string, phases ...string) string {
	return `{"inputs":` + inputs + `,"query":[` + strings.Join(phases, ",") + `]}`
}

// filled is a store with something in it.
func filled(t testing.TB) *store {
	s := &store{}
	for i, data := range []string{"3", "1", "2"} {
		s.put(t, "n", fmt.Sprintf("k%d", i), data, kv.Pair{Name: "age_int", Value: data})
	}
	s.put(t, "j", "a", `{"name":"anna","age":31,"tags":["x"]}`)
	s.put(t, "j", "b", ` {"name":"bert","age":2.5} `)
	s.put(t, "two", "k", "left")
	s.put(t, "two", "k", "right")
	s.put(t, "tt/b", "k", "of a type", api.Link{Bucket: "c", Key: "x", Tag: "t"}.Pair())
	s.put(t, "l", "from", "1", api.Link{Bucket: "n", Key: "k1", Tag: "next"}.Pair(), api.Link{Bucket: "n", Key: "k0", Tag: "next"}.Pair(),
		api.Link{Bucket: "n", Key: "k0", Tag: "next"}.Pair(), api.Link{Bucket: "j", Key: "a", Tag: "who"}.Pair(), api.Link{Bucket: "j"}.Pair(), kv.Pair{Name: "m", Value: "1"})
	s.put(t, "bytes", "k", "\xff")
	s.put(t, "keys", "k", `["n","k1",{"a":1}]`)
	s.put(t, "keys", "odd", `["n",1]`)
	return s
}

func TestMaps(t *testing.T) {
	s := filled(t)
	const none = `[["n","none"]]`
	for job, want := range map[string]string{
		query(`[["n","k0"]]`, erl("map", "map_object_value", "")):                                                                 `["3"]`,
		query(`[["two","k"]]`, erl("map", "map_object_value_list", "")):                                                           `["left","right"]`,
		query(`[["two","k"]]`, js("map", "mapValues", "")):                                                                        `["left","right"]`,
		query(`[["j","a"],["j","b"]]`, js("map", "mapValuesJson", "")):                                                            `[{"age":31,"name":"anna","tags":["x"]},{"age":2.5,"name":"bert"}]`,
		query(`"j"`, js("map", "mapByFields", `,"arg":{"age":31,"tags":["x"]}`)):                                                  `[{"age":31,"name":"anna","tags":["x"]}]`,
		query(`"n"`, js("map", "mapByFields", `,"arg":{"age":31}`)):                                                               `[]`, // a number has no fields
		query(none, erl("map", "map_object_value", "")):                                                                           `[]`,
		query(none, erl("map", "map_object_value", `,"arg":"filter_notfound"`)):                                                   `[]`,
		query(none, erl("map", "map_object_value", `,"arg":"include_notfound"`)):                                                  `[{"not_found":{"bucket":"n","key":"none","keydata":"undefined"}}]`,
		query(`[["n","none",{"a":[1]}]]`, erl("map", "map_object_value_list", `,"arg":"include_notfound"`)):                       `[{"not_found":{"bucket":"n","key":"none","keydata":{"a":[1]}}}]`,
		query(`[["n","none",7],["n","k0",8]]`, erl("map", "map_object_value", `,"arg":"include_keydata"`)):                        `[7,"3"]`,
		query(none, erl("map", "map_object_value", `,"arg":"include_keydata"`)):                                                   `[null]`,
		query(none, erl("map", "map_object_value_list", `,"arg":{"sub":[1,2]}`)):                                                  `[[1,2]]`,
		query(`[[["tt","b"],"none"]]`, erl("map", "map_identity", "")):                                                            `[{"not_found":{"bucket":["tt","b"],"key":"none","keydata":"undefined"}}]`,
		query(none, js("map", "mapValues", "")):                                                                                   `[{"not_found":{"bucket":"n","key":"none","keydata":"undefined"}}]`,
		query(none, js("map", "mapValuesJson", ""), js("reduce", "filterNotFound", "")):                                           `[]`,
		query(none, js("map", "mapByFields", `,"arg":{}`)):                                                                        `[]`,
		query(`[["l","from"]]`, `{"link":{"bucket":"n","tag":"_"}}`):                                                              `[["n","k0","next"],["n","k1","next"]]`,
		query(`[["l","from"]]`, `{"link":{}}`):                                                                                    `[["j","a","who"],["n","k0","next"],["n","k1","next"]]`,
		query(`[["l","from"],["l","none"]]`, `{"link":{"tag":"who"}}`, erl("map", "map_object_value", "")):                        `["{\"name\":\"anna\",\"age\":31,\"tags\":[\"x\"]}"]`,
		query(`[["keys","k"]]`, js("map", "mapValuesJson", ""), erl("map", "map_object_value", `,"arg":"include_keydata"`)):       `["1"]`,
		query(`[["b","k",null,"tt"]]`, `{"link":{"bucket":"c"}}`):                                                                 `[[["tt","c"],"x","t"]]`,
		query(`"l"`, `{"link":{"bucket":"n","keep":true}}`, erl("map", "map_object_value", ""), erl("reduce", "reduce_sort", "")): `[[["n","k0","next"],["n","k1","next"]],["1","3"]]`,
	} {
		if got, err := s.collect(t, job); err != nil || got != want {
			t.Errorf("%s\n\tis %s, %v; want %s", job, got, err, want)
		}
	}
	if s.heads == 0 {
		t.Error("no link phase has read without the data")
	}
}

func TestMapIdentityShowsTheObject(t *testing.T) {
	s := &store{}
	s.Now = func() time.Time { return time.Unix(1_700_000_000, 0) }
	link := api.Link{Bucket: "c", Key: "x", Tag: "t"}.Pair()
	s.put(t, "tt/b", "k", `<v>`, kv.Pair{Name: "who", Value: "me"}, link, kv.Pair{Name: "age_int", Value: "7"}, kv.Pair{Name: "age_int", Value: "8"})
	got, err := s.collect(t, query(`["tt","b"]`, erl("map", "map_identity", "")))
	if err != nil {
		t.Fatal(err)
	}
	var shown []struct {
		VClock string `json:"vclock"`
		Values []struct {
			Metadata map[string]json.RawMessage `json:"metadata"`
		} `json:"values"`
	}
	if err := json.Unmarshal([]byte(got), &shown); err != nil || len(shown) != 1 || len(shown[0].Values) != 1 {
		t.Fatalf("%v: %s", err, got)
	}
	tag := string(shown[0].Values[0].Metadata["X-Riak-VTag"])
	want := `[{"bucket":"b","bucket_type":"tt","key":"k","values":[{"data":"<v>","metadata":{"Links":[["c","x","t"]],` +
		`"X-Riak-Last-Modified":"Tue, 14 Nov 2023 22:13:20 GMT","X-Riak-Meta":{"X-Riak-Meta-who":"me"},"X-Riak-VTag":` + tag +
		`,"content-type":"text/plain","index":{"age_int":["7","8"]}}}],"vclock":"` + shown[0].VClock + `"}]`
	if got != want || shown[0].VClock == "" || tag == "" {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestReduces(t *testing.T) {
	s := &store{}
	for i, data := range []string{"10", "9", `"b"`, `["x",1]`, `{"a":1,"b":2.5}`, "null", "true", "9", "2.5", `{"a":2}`, `[["a",3],["c",1]]`, "false"} {
		s.put(t, "all", fmt.Sprintf("k%02d", i), data)
		if strings.Trim(data, "0123456789.") == "" {
			s.put(t, "numbers", fmt.Sprintf("k%02d", i), data)
		}
		if strings.Contains(data, `"a"`) {
			s.put(t, "plist", fmt.Sprintf("k%02d", i), data)
		}
	}
	s.put(t, "big", "a", "9223372036854775807")
	s.put(t, "big", "b", "-9223372036854775808")
	s.put(t, "big", "c", "9223372036854775807")
	s.put(t, "texts", "a", "+7")
	s.put(t, "texts", "b", "-12")
	values := js("map", "mapValuesJson", "")
	for job, want := range map[string]string{
		query(`"all"`, values, js("reduce", "reduceSort", "")):                                                                                `[10,2.5,9,9,["x",1],[["a",3],["c",1]],"b",false,null,true,{"a":1,"b":2.5},{"a":2}]`,
		query(`"numbers"`, values, erl("reduce", "reduce_set_union", ""), js("reduce", "reduceSort", "")):                                     `[10,2.5,9]`,
		query(`[["big","a"]]`, values, erl("reduce", "reduce_string_to_integer", "")):                                                         `[9223372036854775807]`,
		query(`"all"`, values, erl("reduce", "reduce_sort", "")):                                                                              `[2.5,9,9,10,false,null,true,{"a":1,"b":2.5},{"a":2},[["a",3],["c",1]],["x",1],"b"]`,
		query(`"all"`, values, erl("reduce", "reduce_set_union", "")):                                                                         `[2.5,9,10,false,null,true,{"a":1,"b":2.5},{"a":2},[["a",3],["c",1]],["x",1],"b"]`,
		query(`"all"`, values, erl("reduce", "reduce_count_inputs", "")):                                                                      `[12]`,
		query(`"all"`, erl("reduce", "reduce_count_inputs", "")):                                                                              `[12]`,
		query(`"all"`, values, js("reduce", "reduceMin", "")):                                                                                 `[2.5]`,
		query(`"all"`, values, js("reduce", "reduceMax", "")):                                                                                 `["b"]`,
		query(`"numbers"`, values, js("reduce", "reduceSort", "")):                                                                            `[10,2.5,9,9]`,
		query(`"numbers"`, values, js("reduce", "reduceNumericSort", "")):                                                                     `[2.5,9,9,10]`,
		query(`"numbers"`, values, js("reduce", "reduceSum", "")):                                                                             `[30.5]`,
		query(`"numbers"`, values, erl("reduce", "reduce_sum", `,"arg":{"reduce_phase_batch_size":2}`)):                                       `[30.5]`,
		query(`"plist"`, values, erl("reduce", "reduce_plist_sum", "")):                                                                       `[{"a":6,"b":2.5,"c":1}]`,
		query(`"big"`, values, erl("reduce", "reduce_sum", "")):                                                                               `[9223372036854775806]`,
		query(`[["big","a"],["big","c"]]`, values, erl("reduce", "reduce_sum", "")):                                                           `[18446744073709552000]`,
		query(`[["big","b"],["big","b"]]`, values, erl("reduce", "reduce_sum", "")):                                                           `[-18446744073709552000]`,
		query(`"texts"`, erl("map", "map_object_value", ""), erl("reduce", "reduce_string_to_integer", ""), erl("reduce", "reduce_sort", "")): `[-12,7]`,
		query(`"numbers"`, values, js("reduce", "reduceNumericSort", ""), js("reduce", "reduceLimit", `,"arg":2`)):                            `[2.5,9]`,
		query(`"numbers"`, values, js("reduce", "reduceNumericSort", ""), js("reduce", "reduceLimit", `,"arg":99`)):                           `[2.5,9,9,10]`,
		query(`"numbers"`, values, js("reduce", "reduceNumericSort", ""), js("reduce", "reduceSlice", `,"arg":[-2,-1]`)):                      `[9]`,
		query(`"numbers"`, values, js("reduce", "reduceNumericSort", ""), js("reduce", "reduceSlice", `,"arg":[2]`)):                          `[9,10]`,
		query(`"numbers"`, values, js("reduce", "reduceNumericSort", ""), js("reduce", "reduceSlice", `,"arg":[3,1]`)):                        `[]`,
		query(`[["a","b"],["a","c",1],[["t","a"],"b"]]`, erl("reduce", "reduce_identity", "")):                                                `[["a","b"],["a","c"],[["t","a"],"b"]]`,
		query(`[["a","b"],["a","c",1],["a","b"]]`, erl("reduce", "reduce_set_union", "")):                                                     `[["a","b"],["a","c",1]]`,
		query(`[["a","b"]]`, js("reduce", "filterNotFound", "")):                                                                              `[["a","b"]]`,
		query(`[["none","b"]]`, js("map", "mapValues", ""), erl("reduce", "reduce_sum", "")):                                                  `[0]`,
		query(`[["none","b"]]`, js("map", "mapValues", ""), erl("reduce", "reduce_string_to_integer", "")):                                    `[]`,
		query(`[["none","b"]]`, js("map", "mapValues", ""), erl("reduce", "reduce_plist_sum", "")):                                            `[]`,
		query(`[["none","b"]]`, js("map", "mapValues", ""), js("reduce", "reduceMax", "")):                                                    `[]`,
		query(`[]`, erl("reduce", "reduce_sum", "")):                                                                                          `[0]`,
		query(`[]`, erl("reduce", "reduce_count_inputs", "")):                                                                                 `[0]`,
		query(`[]`, erl("reduce", "reduce_sort", "")):                                                                                         `[]`,
		query(`[]`, js("reduce", "reduceSum", "")):                                                                                            `[0]`,
		query(`[]`, js("reduce", "reduceLimit", `,"arg":1`)):                                                                                  `[]`,
	} {
		if got, err := s.collect(t, job); err != nil || got != want {
			t.Errorf("%s\n\tis %s, %v; want %s", job, got, err, want)
		}
	}
}

func TestInputs(t *testing.T) {
	s := filled(t)
	s.put(t, "tt/n", "k9", "9")
	names := erl("reduce", "reduce_identity", "")
	sort := erl("reduce", "reduce_sort", "")
	for inputs, want := range map[string]string{
		`"n"`:                   `[["n","k0"],["n","k1"],["n","k2"]]`,
		`"none"`:                `[]`,
		`["tt","n"]`:            `[[["tt","n"],"k9"]]`,
		`["default","n"]`:       `[["n","k0"],["n","k1"],["n","k2"]]`,
		`{"bucket":"n"}`:        `[["n","k0"],["n","k1"],["n","k2"]]`,
		`{"bucket":["tt","n"]}`: `[[["tt","n"],"k9"]]`,
		`{"bucket":"n","index":"age_int","key":2}`:                                              `[["n","k2"]]`,
		`{"bucket":"n","index":"age_int","key":"2","end":null}`:                                 `[["n","k2"]]`,
		`{"bucket":"n","index":"age_int","start":1,"end":"2"}`:                                  `[["n","k1"],["n","k2"]]`,
		`{"bucket":"n","index":"$key","start":"k1","end":"k9"}`:                                 `[["n","k1"],["n","k2"]]`,
		`{"bucket":"n","index":"age_int","start":2,"end":1}`:                                    `[]`,
		`{"bucket":"n","index":"$bucket"}`:                                                      `[["n","k0"],["n","k1"],["n","k2"]]`,
		`{"bucket":"n","key_filters":[["eq","k1"]]}`:                                            `[["n","k1"]]`,
		`[["x","1"],["x","2","d"],["x","3",{},"t"],["x","4",1,"default"],[["t","x"],"5",null]]`: `[[["t","x"],"3"],[["t","x"],"5"],["x","1"],["x","2"],["x","4"]]`,
	} {
		if got, err := s.collect(t, query(inputs, names, sort)); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", inputs, got, err, want)
		}
	}
	if got, err := s.collect(t, query(`[["x","1"],["x","2","d"]]`)); got != `[["x","1"],["x","2","d"]]` {
		t.Errorf("a job without phases answers %s, %v", got, err)
	}
}

func TestWhatIsKept(t *testing.T) {
	s := filled(t)
	values, numbers, total := erl("map", "map_object_value", "%s"), erl("reduce", "reduce_string_to_integer", "%s"), erl("reduce", "reduce_sum", "%s")
	for keeps, want := range map[[3]string]string{
		{"", "", ""}:                `[6]`,
		{"true", "", ""}:            `[["3","1","2"],[6]]`,
		{"false", "false", "false"}: `[]`,
		{"false", "true", "false"}:  `[3,1,2]`,
		{"true", "true", "true"}:    `[["3","1","2"],[3,1,2],[6]]`,
	} {
		var phases []string
		for i, p := range []string{values, numbers, total} {
			keep := ""
			if keeps[i] != "" {
				keep = `,"keep":` + keeps[i]
			}
			phases = append(phases, strings.ReplaceAll(p, "%s", keep))
		}
		got, err := s.collect(t, query(`[["n","k0"],["n","k1"],["n","k2"]]`, phases...))
		if err != nil || got != want {
			t.Errorf("%q: %s, %v; want %s", keeps, got, err, want)
		}
	}
}

// TestAJobGoesThroughInPieces runs maps over more keys than are in a page of a listing.
func TestAJobGoesThroughInPieces(t *testing.T) {
	s := &store{}
	const keys = kv.DefaultPage + 100
	for i := range keys {
		s.put(t, "b", fmt.Sprintf("k%05d", i), strings.Repeat("x", 200))
	}
	j, err := Parse([]byte(query(`"b"`, erl("map", "map_object_value", `,"keep":true`), erl("reduce", "reduce_count_inputs", ""))))
	if err != nil {
		t.Fatal(err)
	}
	var phases []int
	values := 0
	err = New(s).Run(t.Context(), j, func(p Part) error {
		if len(p.Data) > partBytes+1000 {
			t.Errorf("a part of %d bytes", len(p.Data))
		}
		var list []any
		if err := json.Unmarshal(p.Data, &list); err != nil {
			return err
		}
		phases = append(phases, p.Phase)
		if p.Phase == 0 {
			values += len(list)
		} else if list[0] != float64(keys) {
			t.Errorf("counted %v", list)
		}
		return nil
	})
	if err != nil || values != keys || !slices.Equal(phases, []int{0, 0, 0, 0, 1}) {
		t.Errorf("%d values in parts of the phases %v, error %v", values, phases, err)
	}
	if s.most < 2 || s.most > fetches {
		t.Errorf("%d keys were read at once", s.most)
	}
	stop := errors.New("enough")
	if err := New(s).Run(t.Context(), j, func(Part) error { return stop }); err != stop {
		t.Errorf("an answer that nobody takes ends with %v", err)
	}
}

func TestJobsThatFail(t *testing.T) {
	s := filled(t)
	s.put(t, "bad", "k", "{")
	s.put(t, "empty", "k", " ")
	s.put(t, "range", "k", "1e999")
	s.put(t, "huge", "k", "1e308")
	s.put(t, "huge", "l", "1e308")
	s.put(t, "long", "k", strings.Repeat(" ", MaxJSON+1))
	parsed := js("map", "mapValuesJson", "")
	for job, want := range map[string]string{
		query(`"two"`, erl("map", "map_object_value", "")):                                                      `phase 0, riak_kv_mapreduce:map_object_value, of ["two","k"]: there are 2 siblings, and map_object_value takes one value; map_object_value_list takes all`,
		query(`"bytes"`, erl("map", "map_object_value", "")):                                                    `phase 0, riak_kv_mapreduce:map_object_value: the bytes "\xff" are not UTF-8, and JSON can hold nothing else`,
		query(`"bad"`, parsed):                                                                                  `phase 0, Riak.mapValuesJson, of ["bad","k"]: the value is no JSON: unexpected EOF`,
		query(`"empty"`, parsed):                                                                                `phase 0, Riak.mapValuesJson, of ["empty","k"]: the value is no JSON: it is empty`,
		query(`"range"`, parsed):                                                                                `phase 0, Riak.mapValuesJson, of ["range","k"]: the value has the number "1e999", which is out of range`,
		query(`"long"`, parsed):                                                                                 `phase 0, Riak.mapValuesJson, of ["long","k"]: the value is 4194305 bytes long; the limit of what is parsed is 4194304`,
		query(`"huge"`, parsed, erl("reduce", "reduce_sum", "")):                                                `phase 1, riak_kv_mapreduce:reduce_sum: a number is out of range`,
		query(`"j"`, js("map", "mapByFields", `,"arg":{"a":1}`), parsed):                                        ``,
		query(`[["j","b"]]`, js("map", "mapByFields", `,"arg":{}`), parsed):                                     `phase 1, Riak.mapValuesJson, of {"age":2.5,"name":"bert"}: it takes keys, as [BUCKET,KEY] or [BUCKET,KEY,DATA]`,
		query(`[["n","k0"]]`, erl("map", "map_object_value", ""), erl("reduce", "reduce_sum", "")):              `phase 1, riak_kv_mapreduce:reduce_sum, of "3": it is no number`,
		query(`[["n","k0"]]`, erl("map", "map_object_value", ""), js("reduce", "reduceNumericSort", "")):        `phase 1, Riak.reduceNumericSort, of "3": it is no number`,
		query(`[["j","b"]]`, erl("map", "map_object_value", ""), erl("reduce", "reduce_string_to_integer", "")): `phase 1, riak_kv_mapreduce:reduce_string_to_integer, of " {\"name\":\"bert\",\"age\":2.5} ": it is no integer`,
		query(`[["j","b"]]`, parsed, erl("reduce", "reduce_string_to_integer", "")):                             `phase 1, riak_kv_mapreduce:reduce_string_to_integer, of {"age":2.5,"name":"bert"}: it is no integer`,
		query(`[["j","b"]]`, parsed, erl("reduce", "reduce_plist_sum", "")):                                     `phase 1, riak_kv_mapreduce:reduce_plist_sum, of {"age":2.5,"name":"bert"}: its "name" is no number`,
		query(`[["n","k0"]]`, parsed, erl("reduce", "reduce_plist_sum", "")):                                    `phase 1, riak_kv_mapreduce:reduce_plist_sum, of 3: it is no object, and no list of [NAME,NUMBER]`,
		query(`[["keys","odd"]]`, parsed, parsed):                                                               `phase 1, Riak.mapValuesJson, of ["n",1]: what it got must have a key, a text, after the bucket`,
		query(`[["keys","k"]]`, parsed, erl("reduce", "reduce_plist_sum", "")):                                  `phase 1, riak_kv_mapreduce:reduce_plist_sum, of ["n","k1",{"a":1}]: it is no object, and no list of [NAME,NUMBER]`,
		query(`[["n","k0"]]`, parsed, erl("reduce", "reduce_identity", "")):                                     `phase 1, riak_kv_mapreduce:reduce_identity, of 3: it takes keys, as [BUCKET,KEY] or [BUCKET,KEY,DATA]`,
		query(`{"bucket":"n","key_filters":[["string_to_int"],["eq",1]]}`, erl("reduce", "reduce_sort", "")):    `inputs, of "k0": key filter string_to_int: it is no integer`,
	} {
		_, err := s.collect(t, job)
		if err == nil && want != "" || err != nil && err.Error() != want {
			t.Errorf("%s\n\tfails with %q, want %q", job, err, want)
		}
	}
	s.fail = &kv.QuorumError{Op: "get", Need: "R", Want: 2, Got: 1}
	_, err := s.collect(t, query(`[["n","k0"]]`, parsed))
	if !errors.Is(err, kv.ErrQuorum) || string(ErrorJSON(err)) != `{"phase":0,"error":"get: R wants 2, got 1","input":"[\"n\",\"k0\"]","type":"Riak.mapValuesJson"}` {
		t.Errorf("%v, %s", err, ErrorJSON(err))
	}
	if _, err := s.collect(t, query(`[["n","k0"]]`, `{"link":{}}`)); !errors.Is(err, kv.ErrQuorum) {
		t.Errorf("a link phase that cannot read ends with %v", err)
	}
}

func TestInputsThatFail(t *testing.T) {
	for _, inputs := range []string{`"b"`, `{"bucket":"b","index":"$bucket"}`} {
		j, err := Parse([]byte(query(inputs)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = New(unlisted{}).Collect(t.Context(), j)
		if !errors.Is(err, kv.ErrOverload) && !errors.Is(err, kv.ErrInvalid) || !strings.HasPrefix(err.Error(), "inputs: ") {
			t.Errorf("%s: %v", inputs, err)
		}
		if got := string(ErrorJSON(err)); got != `{"error":"`+err.Error()+`"}` {
			t.Error(got)
		}
	}
}

// TestAQueryThatFails is of one that can be queried, but not now.
func TestAQueryThatFails(t *testing.T) {
	s := filled(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, inputs := range []string{`"n"`, `{"bucket":"n","index":"$bucket"}`} {
		j, err := Parse([]byte(query(inputs)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(s).Collect(ctx, j); !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "inputs: ") {
			t.Errorf("%s: %v", inputs, err)
		}
	}
}

// unlisted is a store that can be neither listed nor queried.
type unlisted struct{ Store }

func (unlisted) Keys(context.Context, kv.Bucket, kv.ListOptions) (kv.KeyPage, error) {
	return kv.KeyPage{}, kv.ErrOverload
}

// Filters look at no more keys when the time is over, whether any pass or not.
func TestFiltersEndInTime(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	looked := 0
	in := inputs{bucket: kv.Bucket{Name: "n"}, filter: func(any) (any, error) {
		looked++
		cancel()
		return false, nil
	}}
	if err := in.feedKeys(ctx, filled(t), func([]any) error { return nil }); err != context.Canceled || looked != 1 {
		t.Errorf("%v after %d keys", err, looked)
	}
}

func TestAJobEndsAtItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{wait: true}
		begun := time.Now()
		_, err := s.collect(t, `{"inputs":[["b","k"]],"timeout":1500,"query":[`+erl("map", "map_identity", "")+`]}`)
		if err != kv.ErrTimeout || time.Since(begun) != 1500*time.Millisecond || string(ErrorJSON(err)) != `{"error":"timeout"}` {
			t.Errorf("%v after %v: %s", err, time.Since(begun), ErrorJSON(err))
		}
		begun = time.Now()
		if _, err = s.collect(t, query(`[["b","k"]]`, erl("map", "map_identity", ""))); err != kv.ErrTimeout || time.Since(begun) != kv.DefaultTimeout {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		j, err := Parse([]byte(query(`[["b","k"]]`, erl("map", "map_identity", ""))))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(s).Collect(ctx, j); !errors.Is(err, context.Canceled) {
			t.Errorf("a job whose client has gone ends with %v", err)
		}
	})
}

// heavy has objects of so many bytes, and knows how many are in memory at most, as long as
// each is let go of before the next one is read.
type heavy struct {
	store
	each int
}

func (h *heavy) Get(ctx context.Context, k kv.Key, o kv.ReadOptions) (kv.Object, error) {
	if _, err := h.store.Get(ctx, k, o); err != nil && !errors.Is(err, kv.ErrNotFound) {
		return kv.Object{}, err
	}
	return kv.Object{Values: []kv.Value{{Data: make([]byte, h.each)}}}, nil
}

// All jobs of a Runner share the memory for objects, and none waits for ever.
func TestObjectsInMemoryHaveALimit(t *testing.T) {
	var inputs []string
	for i := range 40 {
		inputs = append(inputs, fmt.Sprintf(`["b","%d"]`, i))
	}
	// A busy machine may take a while for 160 MB of values.
	j, err := Parse([]byte(`{"inputs":[` + strings.Join(inputs, ",") + `],"timeout":600000,"query":[` + erl("map", "map_object_value", "") + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	h := &heavy{each: 1 << 20}
	r := New(h)
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			if err := r.Run(t.Context(), j, func(Part) error { return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	if r.memory.used != 0 {
		t.Errorf("%d bytes are held when no job runs", r.memory.used)
	}
	var keys []kv.Key
	for i := range 16 {
		keys = append(keys, kv.Key{Bucket: "b", Name: fmt.Sprint(i)})
	}
	b := &budget{}
	one, two := newSource(h, b), newSource(h, b)
	first, _, err := one.fetch(t.Context(), keys, kv.ReadOptions{})
	if want := MaxObjects / kv.MaxObject; err != nil || len(first) != want {
		t.Errorf("%d objects of unknown size are read at once, want %d: %v", len(first), want, err)
	}
	if more, _, err := one.fetch(t.Context(), keys, kv.ReadOptions{}); err != nil || len(more) != len(keys) {
		t.Errorf("%d small objects are read at once: %v", len(more), err)
	}
	b.add(MaxObjects) // now all is taken
	if more, _, err := one.fetch(t.Context(), keys, kv.ReadOptions{}); err != nil || len(more) != 1 {
		t.Errorf("a job that holds objects reads %d more: %v", len(more), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if more, _, err := two.fetch(ctx, keys, kv.ReadOptions{}); err != context.Canceled {
		t.Errorf("a job that holds nothing reads %d objects: %v", len(more), err)
	}
	running.Go(func() {
		if more, _, err := two.fetch(t.Context(), keys, kv.ReadOptions{}); err != nil || len(more) == 0 {
			t.Errorf("once there is memory it reads %d: %v", len(more), err)
		}
	})
	one.release(one.held)
	b.add(-MaxObjects)
	running.Wait()
}

func TestThereAreNotTooManyJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, err := Parse([]byte(query(`[["b","k"]]`, erl("map", "map_identity", ""))))
		if err != nil {
			t.Fatal(err)
		}
		r := New(&store{wait: true})
		var running sync.WaitGroup
		for range MaxJobs {
			running.Go(func() {
				if _, err := r.Collect(t.Context(), j); err != kv.ErrTimeout {
					t.Errorf("a job ends with %v", err)
				}
			})
		}
		synctest.Wait()
		if _, err := r.Collect(t.Context(), j); !errors.Is(err, kv.ErrOverload) {
			t.Errorf("one job too many ends with %v", err)
		}
		running.Wait()
		if n := r.running.Load(); n != 0 {
			t.Errorf("%d jobs are still counted", n)
		}
	})
}

func TestWhatIsHeldHasALimit(t *testing.T) {
	if testing.Short() {
		t.Skip("moves 300 MB of values")
	}
	s := &store{}
	big := strings.Repeat("x", 30<<20)
	for i := range 3 {
		s.put(t, "b", fmt.Sprintf("k%d", i), big+fmt.Sprint(i))
	}
	for _, reduce := range []string{"reduce_sort", "reduce_set_union"} {
		_, err := s.collect(t, query(`"b"`, erl("map", "map_object_value", ""), erl("reduce", reduce, "")))
		if !errors.Is(err, errHeld) {
			t.Errorf("%s: %v", reduce, err)
		}
	}
	if got, err := s.collect(t, query(`"b"`, erl("map", "map_object_value", ""), erl("reduce", "reduce_count_inputs", ""))); err != nil || got != "[3]" {
		t.Errorf("a count of large values: %s, %v", got, err)
	}
	if _, err := s.collect(t, query(`"b"`, erl("map", "map_object_value", ""))); !errors.Is(err, kv.ErrInvalid) || !strings.Contains(err.Error(), "answer is more than 67108864 bytes long") {
		t.Errorf("an answer that is too long: %v", err)
	}
}
