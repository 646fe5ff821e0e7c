package mapreduce

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tanodb/tanodb/kv"
)

func TestJobsThatAreNone(t *testing.T) {
	phase := func(s string) string { return `{"inputs":"b","query":[` + s + `]}` }
	inputs := func(s string) string { return `{"inputs":` + s + `,"query":[]}` }
	for job, want := range map[string]string{
		``:                                      "job is no JSON: unexpected end of JSON input",
		`[]`:                                    "job cannot be a JSON array",
		`{}`:                                    "job has no inputs",
		`{"inputs":"b","query":[]}x`:            "job is no JSON: invalid character 'x' after top-level value",
		`{"inputs":"b"}`:                        "job has no query: a list of phases",
		`{"inputs":"b","query":{}}`:             "job.query cannot be a JSON object",
		`{"inputs":"b","query":[],"timeout":0}`: "timeout must be a positive number of milliseconds",
		`{"inputs":"b","query":[],"timeout":"1"}`:                        "job.timeout cannot be a JSON string",
		`{"inputs":"b","query":[],"timeout":-1e9}`:                       "job.timeout cannot be a JSON number -1e9",
		phase(strings.Repeat(`{"link":{}},`, MaxPhases) + `{"link":{}}`): "query has 33 phases; the limit is 32",

		phase(`{}`):                                                         `query[0] must be one of {"map":…}, {"reduce":…} and {"link":…}`,
		phase(`{"link":{}},{"dance":{}}`):                                   "query[1].dance is no kind of phase: there are map, reduce and link",
		phase(`{"map":[]}`):                                                 "query[0].map cannot be a JSON array",
		phase(`{"map":{"keep":1}}`):                                         "query[0].map.keep cannot be a JSON number",
		phase(`{"map":{}}`):                                                 `query[0].map has no language: "erlang" or "javascript"`,
		phase(`{"map":{"language":"perl"}}`):                                `query[0].map.language is "perl"; there are "erlang" and "javascript"`,
		phase(`{"map":{"language":"erlang","module":"m"}}`):                 "query[0].map has no module and function",
		phase(`{"map":{"language":"javascript"}}`):                          "query[0].map has no name",
		phase(`{"map":{"language":"javascript","source":"function(v){}"}}`): "query[0].map.source is not supported: no engine runs functions that come as source; use one of Riak.mapByFields, Riak.mapValues, Riak.mapValuesJson, riak_kv_mapreduce:map_identity, riak_kv_mapreduce:map_object_value, riak_kv_mapreduce:map_object_value_list",
		phase(`{"map":{"language":"javascript","bucket":"b","key":"k"}}`):   "query[0].map.bucket is not supported: no engine runs functions that are stored as source; use one of Riak.mapByFields, Riak.mapValues, Riak.mapValuesJson, riak_kv_mapreduce:map_identity, riak_kv_mapreduce:map_object_value, riak_kv_mapreduce:map_object_value_list",
		phase(erl("map", "reduce_sum", "")):                                 `query[0].map is "riak_kv_mapreduce:reduce_sum", which is not supported; there are Riak.mapByFields, Riak.mapValues, Riak.mapValuesJson, riak_kv_mapreduce:map_identity, riak_kv_mapreduce:map_object_value, riak_kv_mapreduce:map_object_value_list`,
		phase(js("reduce", "mapValues", "")):                                `query[0].reduce is "Riak.mapValues", which is not supported; there are Riak.filterNotFound, Riak.reduceLimit, Riak.reduceMax, Riak.reduceMin, Riak.reduceNumericSort, Riak.reduceSlice, Riak.reduceSort, Riak.reduceSum, riak_kv_mapreduce:reduce_count_inputs, riak_kv_mapreduce:reduce_identity, riak_kv_mapreduce:reduce_plist_sum, riak_kv_mapreduce:reduce_set_union, riak_kv_mapreduce:reduce_sort, riak_kv_mapreduce:reduce_string_to_integer, riak_kv_mapreduce:reduce_sum`,
		phase(erl("map", "map_object_value", `,"arg":"dance"`)):             `query[0].map.arg must be "filter_notfound", "include_notfound", "include_keydata" or {"sub":ANY}`,
		phase(erl("map", "map_object_value", `,"arg":1e999`)):               `query[0].map.arg has the number "1e999", which is out of range`,
		inputs(`{"bucket":"b","key_filters":[["set_member","` + strings.Repeat("x", MaxArg/2) + `","` + strings.Repeat("y", MaxArg/2) + `"]]}`): "inputs.key_filters[0] of set_member has arguments of more than 65536 bytes",
		phase(erl("map", "map_identity", `,"arg":"`+strings.Repeat("x", MaxArg)+`"`)):                                                           "query[0].map.arg is 65538 bytes long; the limit is 65536",
		phase(js("map", "mapByFields", "")):                           "query[0].map.arg must be an object: the fields that are wanted",
		phase(js("reduce", "reduceSort", `,"arg":"function(a,b){}"`)): "query[0].reduce.arg is the source of a function, which is not supported: no engine runs it",
		phase(js("reduce", "reduceLimit", "")):                        "query[0].reduce.arg must be an integer: how many are wanted",
		phase(js("reduce", "reduceSlice", `,"arg":[1,2,3]`)):          "query[0].reduce.arg must be [FROM,TO]: integers, the first place and the one after the last",
		phase(js("reduce", "reduceSlice", `,"arg":["1",2]`)):          "query[0].reduce.arg must be [FROM,TO]: integers, the first place and the one after the last",

		inputs(`7`):                       "inputs must be a bucket, a list of keys, or an object with a bucket",
		inputs(`null`):                    "inputs must be a bucket, a list of keys, or an object with a bucket",
		inputs(`""`):                      "inputs names no bucket: bucket cannot be zero-length",
		inputs(`["t",""]`):                "inputs[0] must be a list: [BUCKET,KEY] or [BUCKET,KEY,DATA]",
		inputs(`[["b"]]`):                 "inputs[0] must be [BUCKET,KEY] or [BUCKET,KEY,DATA]",
		inputs(`[["b","k"],["b",1]]`):     "inputs[1] must have a key, a text, after the bucket",
		inputs(`[["b",""]]`):              "inputs[0] names no key: key cannot be zero-length",
		inputs(`[[["t"],"k"]]`):           `inputs[0] must be a bucket: "BUCKET" or ["TYPE","BUCKET"]`,
		inputs(`[["b","k",1,2]]`):         "inputs[0] must have a bucket type, a text, at its end",
		inputs(`[[["t","b"],"k",1,"t"]]`): "inputs[0] must have a bucket type, a text, at its end",
		inputs("[" + strings.Repeat(`["b","k"],`, MaxInputs) + `["b","k"]]`): "inputs names more than 100000 keys",
		inputs(`{}`):           "inputs has no bucket",
		inputs(`{"bucket":1}`): `inputs.bucket must be a bucket: "BUCKET" or ["TYPE","BUCKET"]`,
		inputs(`{"module":"riak_search","function":"f","arg":[]}`): "inputs of a module or a search are not supported: name keys, a bucket, or a query of an index",
		inputs(`{"bucket":"b","query":"a:b"}`):                     "inputs of a module or a search are not supported: name keys, a bucket, or a query of an index",
		inputs(`{"bucket":"b","index":"i"}`):                       "inputs is no query of an index: Unknown field type for field: 'i'.",
		inputs(`{"bucket":"b","index":1}`):                         "inputs is no query of an index: Unknown field type for field: '1'.",
		inputs(`{"bucket":"b","index":"i_int","key":"x"}`):         "inputs is no query of an index: Could not parse field 'i_int', value 'x'.",
		inputs(`{"bucket":"b","index":"i_int","key":[1]}`):         "inputs.key must be a text or an integer of 64 bits",
		inputs(`{"bucket":"b","index":"i_int","key_filters":[]}`):  "inputs has both key_filters and an index",
	} {
		_, err := Parse([]byte(job))
		if err == nil || err.Error() != want || !errors.Is(err, kv.ErrInvalid) {
			t.Errorf("%.200s\n\tfails with %v\n\twant       %s", job, err, want)
		}
	}
	if _, err := Parse(make([]byte, MaxJob+1)); err == nil || err.Error() != "job is 16777217 bytes long; the limit is 16777216" {
		t.Error(err)
	}
}

func TestTheTimeoutOfAJob(t *testing.T) {
	for given, want := range map[string]time.Duration{
		``: kv.DefaultTimeout, `,"timeout":null`: kv.DefaultTimeout, `,"timeout":1`: time.Millisecond, `,"timeout":9223372036854775807`: kv.MaxTimeout,
	} {
		j, err := Parse([]byte(`{"inputs":"b","query":[]` + given + `}`))
		if err != nil || j.timeout != want {
			t.Errorf("%s: %v, %v", given, j, err)
		}
	}
}

func TestKeyFilters(t *testing.T) {
	for _, c := range []struct{ filters, keys, pass string }{
		{`["eq","a"]`, "a b", "a"},
		{`["neq","a"]`, "a b", "b"},
		{`["string_to_int"],["greater_than",9]`, "9 10 -11", "10"},
		{`["string_to_int"],["less_than",10]`, "9 10 -11", "9 -11"},
		{`["string_to_int"],["greater_than_eq",9.5]`, "9 10", "10"},
		{`["string_to_int"],["less_than_eq",9.0]`, "9 10", "9"},
		{`["string_to_int"],["between",2,4]`, "1 2 3 4 5", "2 3 4"},
		{`["string_to_int"],["between",2,4,false]`, "1 2 3 4 5", "3"},
		{`["string_to_int"],["int_to_string"],["eq","7"]`, "007 8", "007"},
		{`["string_to_float"],["greater_than",1.25]`, "1.5 1.25 -3", "1.5"},
		{`["string_to_float"],["float_to_string"],["eq","1.5"]`, "1.50 2", "1.50"},
		{`["to_upper"],["eq","AB"]`, "ab Ab b", "ab Ab"},
		{`["to_lower"],["eq","ab"]`, "AB Ab b", "AB Ab"},
		{`["urldecode"],["eq","a b"]`, "a%20b a+b a", "a%20b a+b"},
		{`["tokenize","-/",2],["eq","x"]`, "a-x a/x a--x a-y-x", "a-x a/x a--x"},
		{`["matches","^a.c$"]`, "abc abd ac", "abc"},
		{`["set_member","a","c"]`, "a b c", "a c"},
		{`["set_member",["a","c"]]`, "a b c", "a c"},
		{`["similar_to","kitten",2]`, "kitten sitten sittin sitting kit", "kitten sitten sittin"},
		{`["starts_with","ab"]`, "abc ab a", "abc ab"},
		{`["ends_with","bc"]`, "abc bc c", "abc bc"},
		{`["and",[["starts_with","a"]],[["ends_with","c"]]]`, "abc ab bc", "abc"},
		{`["or",[["starts_with","a"]],[["ends_with","c"]]]`, "abc ab bc b", "abc ab bc"},
		{`["or",["starts_with","a"],["ends_with","c"]]`, "abc ab bc b", "abc ab bc"},
		{`["not",[["starts_with","a"]]]`, "abc b", "b"},
		{`["not",["not",["starts_with","a"]]]`, "abc b", "abc"},
		{`["and",[["tokenize","-",1],["eq","a"]],[["tokenize","-",2],["string_to_int"],["or",[["less_than",2]],[["greater_than",8]]]]]`, "a-1 a-5 a-9 b-1", "a-1 a-9"},
	} {
		in, err := parseInputs([]byte(`{"bucket":"b","key_filters":[` + c.filters + `]}`))
		if err != nil {
			t.Errorf("%s: %v", c.filters, err)
			continue
		}
		var pass []string
		for key := range strings.FieldsSeq(c.keys) {
			ok, err := in.passes(key)
			if err != nil {
				t.Errorf("%s: %s: %v", c.filters, key, err)
			}
			if ok {
				pass = append(pass, key)
			}
		}
		if got := strings.Join(pass, " "); got != c.pass {
			t.Errorf("%s: of %s pass %s, want %s", c.filters, c.keys, got, c.pass)
		}
	}
}

func TestKeyFiltersThatAreNone(t *testing.T) {
	deep := strings.Repeat(`[["not",`, maxFilterDepth+1) + `[["eq","a"]]` + strings.Repeat(`]]`, maxFilterDepth+1)
	for filters, want := range map[string]string{
		`[]`:                              "must be from 1 to 256 filters, at most 8 lists within each other",
		deep:                              "must be from 1 to 256 filters, at most 8 lists within each other",
		`["eq"]`:                          `must be a list of filters, ["NAME", ARGUMENT, …]`,
		`[[]]`:                            "[0] must begin with a name",
		`[["to_upper"]]`:                  "must have one condition, and at its end",
		`[["eq","a"],["eq","a"]]`:         "must have one condition, and at its end",
		`[["and"]]`:                       "[0] of and has the wrong number of lists of filters",
		`[["not",[["eq",1]],[["eq",1]]]]`: "[0] of not has the wrong number of lists of filters",
		`[["or",[]]]`:                     "must be from 1 to 256 filters, at most 8 lists within each other",
		`[["or",7]]`:                      `[0] must be a list of filters, ["NAME", ARGUMENT, …]`,
		`[["dance"]]`:                     `[0] is "dance"; there are and, not, or, between,`,
		`[["eq"]]`:                        "[0] of eq: it has the wrong arguments",
		`[["eq",1e999]]`:                  `[0] has the number "1e999", which is out of range`,
		`[["between",1]]`:                 "[0] of between: it has the wrong arguments",
		`[["between",1,2,3]]`:             "[0] of between: it has the wrong arguments",
		`[["to_upper",1],["eq",1]]`:       "[0] of to_upper: it has the wrong arguments",
		`[["tokenize","-",0],["eq",1]]`:   "[0] of tokenize: it has the wrong arguments",
		`[["tokenize","-"],["eq",1]]`:     "[0] of tokenize: it has the wrong arguments",
		`[["matches","("]]`:               "[0] of matches: error parsing regexp",
		`[["matches",1]]`:                 "[0] of matches: it has the wrong arguments",
		`[["matches"]]`:                   "[0] of matches: it has the wrong arguments",
		`[["similar_to","a"]]`:            "[0] of similar_to: it has the wrong arguments",
		`[["similar_to","a",-1]]`:         "[0] of similar_to: it has the wrong arguments",
		`[["starts_with"]]`:               "[0] of starts_with: it has the wrong arguments",
		`[["starts_with",1]]`:             "[0] of starts_with: it has the wrong arguments",
	} {
		_, err := Parse([]byte(`{"inputs":{"bucket":"b","key_filters":` + filters + `},"query":[]}`))
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, kv.ErrInvalid) {
			t.Errorf("%s: %v, want %s", filters, err, want)
		}
	}
	for filters, key := range map[string]string{
		`["string_to_int"],["to_upper"],["eq",1]`: "1", `["string_to_float"],["eq",1]`: "x", `["int_to_string"],["eq",1]`: "x", `["urldecode"],["eq",1]`: "%",
		`["tokenize","-",3],["eq",1]`: "a-b", `["string_to_int"],["starts_with","1"]`: "1", `["string_to_int"],["similar_to","1",1]`: "1",
		`["string_to_int"],["tokenize","1",1],["eq",1]`: "1", `["string_to_int"],["urldecode"],["eq",1]`: "1", `["string_to_int"],["string_to_float"],["eq",1]`: "1",
		`["and",[["string_to_int"],["eq",1]]]`: "x",
	} {
		in, err := parseInputs([]byte(`{"bucket":"b","key_filters":[` + filters + `]}`))
		if err != nil {
			t.Errorf("%s: %v", filters, err)
			continue
		}
		if _, err := in.passes(key); err == nil {
			t.Errorf("%s takes %q", filters, key)
		}
	}
}

// FuzzParse reads jobs. One that is understood runs over a small store, and its answer is
// JSON, or its error has words.
func FuzzParse(f *testing.F) {
	s := filled(f)
	for _, inputs := range []string{`"n"`, `["tt","b"]`, `[["n","k0",{"a":1}],[["t","b"],"k"],["j","a",0,"default"]]`, `{"bucket":"n","index":"age_int","start":1,"end":"2"}`, `{"bucket":"n","key_filters":[["tokenize","k",1],["string_to_int"],["or",[["eq",1]],[["between",0,2,false]]]]}`} {
		for _, phases := range []string{
			erl("map", "map_object_value", `,"arg":{"sub":[1,null]}`) + "," + erl("reduce", "reduce_set_union", `,"keep":true`),
			js("map", "mapValuesJson", `,"keep":true`) + "," + js("reduce", "reduceSlice", `,"arg":[-1,2]`),
			`{"link":{"tag":"next"}},` + erl("map", "map_identity", ""), "",
		} {
			f.Add([]byte(fmt.Sprintf(`{"inputs":%s,"query":[%s],"timeout":1000}`, inputs, phases)))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := s.collect(t, string(b))
		if err != nil && (err.Error() == "" || len(ErrorJSON(err)) == 0) {
			t.Errorf("%q: %s, %v", b, got, err)
		}
	})
}
