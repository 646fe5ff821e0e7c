package kv_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// What is listed can be set again, and says the same.
func TestPropertiesAreReadAsTheyPrint(t *testing.T) {
	p := kv.DefaultProps(5, true)
	list := kv.Properties{
		{Name: "big_vclock", Value: "7"}, {Name: "delete_mode", Value: "3000"}, {Name: "n_val", Value: "4"}, {Name: "node_confirms", Value: "2"},
		{Name: "notfound_ok", Value: "false"}, {Name: "r", Value: "all"}, {Name: "siblings_warning", Value: "10"}, {Name: "ttl", Value: "1.5s"}, {Name: "w", Value: "1"},
	}
	p, err := p.With(list)
	if err != nil {
		t.Fatal(err)
	}
	if p.N != 4 || p.R != kv.All || p.W != 1 || p.NotFoundOK || p.TTL != 1500*time.Millisecond || p.SiblingWarn != 10 || p.Grace() != 3*time.Second || p.Keeps() {
		t.Errorf("%+v", p)
	}
	for _, x := range list {
		if got := p.List().Lookup(x.Name); got != x.Value {
			t.Errorf("%s is listed as %s, not %s", x.Name, got, x.Value)
		}
	}
	again, err := kv.DefaultProps(5, false).With(p.List())
	if err != nil || !slices.Equal(again.List(), p.List()) {
		t.Errorf("%v: read again:\n%v\n%v", err, again.List(), p.List())
	}
	b, err := json.Marshal(p.List())
	if err != nil {
		t.Fatal(err)
	}
	var read kv.Properties
	if err := json.Unmarshal(b, &read); err != nil || !slices.Equal(read, p.List()) {
		t.Errorf("%v: as JSON: %s\n%v", err, b, read)
	}
	if !slices.IsSortedFunc(p.List(), func(a, b kv.Property) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("they are not in the order of their names")
	}
}

// Riak's clients send numbers, booleans, words and objects, and null for a property to be taken back.
func TestPropertiesAsRiaksJSON(t *testing.T) {
	var p kv.Properties
	in := `{"w":"quorum","n_val":3,"allow_mult":true,"ttl":86400,"linkfun":{"mod":"riak_kv_wm_link_walker","fun":"mapreduce_linkfun"},"precommit":[],"r":null,"delete_mode":"immediate"}`
	if err := json.Unmarshal([]byte(in), &p); err != nil {
		t.Fatal(err)
	}
	c, err := p.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(c)
	want := `{"allow_mult":true,"delete_mode":"reap","linkfun":{"fun":"mapreduce_linkfun","mod":"riak_kv_wm_link_walker"},"n_val":3,"precommit":[],"r":null,"ttl":"24h0m0s","w":"quorum"}`
	if err != nil || string(out) != want {
		t.Errorf("%v\n%s\n%s", err, out, want)
	}
	for _, bad := range []string{`[]`, `{"a":`, `{"w":"most"}`, `{"precommit":[{"mod":"m","fun":"f"}]}`, `{"search":true}`, `{"n_val":3.5}`, `{"allow_mult":1}`} {
		var p kv.Properties
		if err := json.Unmarshal([]byte(bad), &p); err != nil {
			continue
		}
		if _, err := kv.DefaultProps(3, true).With(p); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

func TestWhichValuesABucketShows(t *testing.T) {
	for list, want := range map[string]bool{`{}`: false, `{"allow_mult":false}`: true, `{"allow_mult":false,"last_write_wins":true}`: true} {
		var p kv.Properties
		if err := json.Unmarshal([]byte(list), &p); err != nil {
			t.Fatal(err)
		}
		if got, err := kv.DefaultProps(3, true).With(p); err != nil || got.Latest() != want {
			t.Errorf("%s: %v, %v", list, got.Latest(), err)
		}
	}
	if plain := kv.DefaultProps(3, false); !plain.Latest() {
		t.Error("the default type keeps siblings")
	}
}
