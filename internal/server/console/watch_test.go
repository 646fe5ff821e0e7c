package console

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
)

// event is one of a request, so many milliseconds after its beginning.
func event(ms int, phase string, kind tanodb.TraceKind, ask int, node, text string) tanodb.TraceEvent {
	e := tanodb.TraceEvent{At: time.Duration(ms) * time.Millisecond, Phase: phase, Kind: kind, Ask: ask, Text: text, OK: kind == tanodb.TraceReply}
	if node != "" {
		e.Replica = tanodb.Replica{Partition: ask, Node: node, Role: kv.Primary}
	}
	return e
}

// reached are the steps that a story has come to.
func (s *story) reached() string {
	var names []string
	for _, p := range s.Phases {
		if p.Reached {
			names = append(names, p.Name)
		}
	}
	return strings.Join(names, " ")
}

func TestStoryOfAGet(t *testing.T) {
	s := newStory(watched{op: watchOps[0], key: kv.Key{Bucket: "b", Name: "k"}})
	for _, e := range []tanodb.TraceEvent{
		event(0, "prepare", tanodb.TraceBegin, -1, "", ""),
		event(0, "execute", tanodb.TraceAsk, 0, "n1", "read"),
		event(0, "execute", tanodb.TraceAsk, 1, "n2", "read"),
		event(0, "execute", tanodb.TraceAsk, 2, "n3", "read"),
		event(10, "execute", tanodb.TraceReply, 0, "n1", "has 9 bytes"),
	} {
		s.add(e)
	}
	s.draw(40 * time.Millisecond)
	if s.reached() != "prepare execute" || !s.Bars[1].open || s.Bars[1].Width != barsWidth || s.Bars[0].Width != barsWidth/4 {
		t.Errorf("after the first answer it has reached %s, and the bars are %+v", s.reached(), s.Bars)
	}
	for _, e := range []tanodb.TraceEvent{
		event(60, "waiting", tanodb.TraceReply, 1, "n2", "has nothing"),
		event(60, "waiting", tanodb.TraceAnswer, -1, "", ""),
		event(70, "repairing", tanodb.TraceDown, -1, "n3", ""),
		event(80, "repairing", tanodb.TraceAsk, 3, "n2", "store this version"),
		event(80, "repairing", tanodb.TraceRepair, -1, "n2", "has nothing, and is sent the merged version"),
	} {
		s.add(e)
	}
	s.answered(outcome{values: []kv.Value{{Data: []byte("v")}}, text: "one value"}, time.Second)
	if s.Over {
		t.Error("it is over before the request has ended")
	}
	s.add(event(80, "done", tanodb.TraceEnd, -1, "", ""))
	s.draw(time.Second)
	var classes []string
	for _, b := range s.Bars {
		classes = append(classes, b.Class)
	}
	if want := []string{"ok", "ok", "bad", "sent"}; !slices.Equal(classes, want) {
		t.Errorf("the bars are %q, want %q", classes, want)
	}
	if !s.Over || s.reached() != "prepare execute waiting answer repairing" || s.Answer.After != 60*time.Millisecond || s.Answer.Text != "one value" {
		t.Errorf("in the end it is over: %v, has reached %s, and its answer is %+v", s.Over, s.reached(), s.Answer)
	}
	if x := s.AnswerX(); x != barsLeft+barsWidth*60/80 {
		t.Errorf("the answer is at %v", x)
	}
	if html := render("story", s); strings.Contains(html, "cannot be shown") || strings.Count(html, "<rect") != 4 {
		t.Errorf("the story is\n%s", html)
	}
}

func TestStoryIsBounded(t *testing.T) {
	s := newStory(watched{op: watchOps[1]})
	for i := range 2 * maxEvents {
		s.add(event(i, "waiting", tanodb.TraceRenew, -1, "", "again"))
	}
	if len(s.Events) != maxEvents || !s.Missing {
		t.Errorf("%d events are shown, and that there are more: %v", len(s.Events), s.Missing)
	}
}

// watched runs a request as a page with scripts does, and is its whole story.
func (s *site) watched(form url.Values) string {
	s.t.Helper()
	form.Set("bucket", "b")
	form.Set("key", "k<>")
	resp, body := s.ask("POST", Prefix+"/watch", form.Encode(), "Accept: text/event-stream")
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		s.t.Fatalf("%d, %s", resp.StatusCode, body)
	}
	events := strings.Split(strings.TrimSuffix(body, "\n\n"), "\n\n")
	if events[len(events)-1] != "event: end\ndata: {}" {
		s.t.Errorf("the stream ends with %q", events[len(events)-1])
	}
	return events[len(events)-2]
}

// TestWatchedRequestsOfARealCluster runs a put, a get and one that cannot succeed on real
// nodes, as a page with scripts does.
func TestWatchedRequestsOfARealCluster(t *testing.T) {
	nodes, _ := tanodb.NewTestCluster(t, 3, tanodb.Options{Partitions: 8})
	s := serve(t, nodes[0], Options{})
	run := func(form url.Values) string { return s.watched(form) }
	put := run(url.Values{"op": {"put"}, "value": {"hello"}, "quorum": {"all"}})
	for _, want := range []string{"make the new version", "store this version", "W 3/3: met", "Answered", `b/k\u0026lt;\u0026gt;`} {
		if !strings.Contains(put, want) {
			t.Errorf("the put is without %q:\n%s", want, put)
		}
	}
	get := run(url.Values{"op": {"get"}})
	for _, want := range []string{"prepare", "R 2/2: met", "one value", "hello"} {
		if !strings.Contains(get, want) {
			t.Errorf("the get is without %q:\n%s", want, get)
		}
	}
	// The explorer shows what the put has left on each node.
	if _, body := s.ask("GET", keysAt("", "b", "k<>"), ""); strings.Count(body, "1 value<") != 3 || strings.Contains(body, "behind") {
		t.Errorf("the explorer shows\n%s", body)
	}
	if _, body := s.ask("GET", Prefix+"/", ""); !strings.Contains(body, "3 of 3 members up") {
		t.Errorf("the overview is\n%s", body)
	}
	refused := run(url.Values{"op": {"get"}, "quorum": {"9"}})
	if !strings.Contains(refused, "Failed") {
		t.Errorf("a get with R=9 is\n%s", refused)
	}
}

// TestDataTypesAndDeletesAreWatched does what else the form has, on real nodes.
func TestDataTypesAndDeletesAreWatched(t *testing.T) {
	nodes, _ := tanodb.NewTestCluster(t, 3, tanodb.Options{Partitions: 8})
	for name, kind := range map[string]string{"sets": "set", "counters": "counter"} {
		props := kv.Properties{{Name: "datatype", Value: kind}}
		if err := errors.Join(nodes[0].CreateBucketType(t.Context(), name, props), nodes[0].ActivateBucketType(t.Context(), name)); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, nodes[0], Options{})
	for _, tc := range []struct {
		op, bucketType, value string
		want                  []string
	}{
		{"increment", "counters", " -3 ", []string{"add to a counter", "apply the operation", "W 2/", "a counter", "-3"}},
		{"fetch", "counters", "", []string{"fetch a data type", "R 2/", "a counter", "-3", "repairing"}},
		{"add", "sets", "pear", []string{"apply the operation", `{\u0026#34;pear\u0026#34;}`}},
		{"remove", "sets", "plum", []string{"Failed", "precondition"}},
		{"remove", "sets", "pear", []string{"Answered", "{}"}},
		{"fetch", "sets", "", []string{"a set", "{}"}},
		{"increment", "sets", "1", []string{"Failed"}},
		{"put", "", "v", []string{"written"}},
		{"delete", "", "", []string{"reading", "writing", "read\\u003c", "make the tombstone", "W 2/", "deleted"}},
		{"delete", "", "", []string{"reading", "not found"}},
		{"get", "", "", []string{"not found"}},
	} {
		story := s.watched(url.Values{"op": {tc.op}, "type": {tc.bucketType}, "value": {tc.value}, "quorum": {""}})
		for _, want := range tc.want {
			if !strings.Contains(story, want) {
				t.Errorf("%s of %q in %q is without %q:\n%s", tc.op, tc.value, tc.bucketType, want, story)
			}
		}
	}
	// A page without scripts has the form again, as it was filled in.
	if _, body := s.ask("POST", Prefix+"/watch", "op=increment&type=counters&bucket=b&key=k&value=5"); !strings.Contains(body, `value="increment" checked`) || !strings.Contains(body, "Answered") {
		t.Errorf("the page is\n%s", body)
	}
}
