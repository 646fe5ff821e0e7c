package coordinator

import (
	"errors"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// calm is a node of three on eight partitions, all up.
func calm(t testing.TB, self string) View {
	t.Helper()
	r, err := ring.New([]string{"n1", "n2", "n3", "n1", "n2", "n3", "n1", "n2"})
	if err != nil {
		t.Fatal(err)
	}
	return View{Ring: r, Self: self, Replicas: 3, Wall: time.Unix(1, 0), Up: func(string) bool { return true }}
}

// begun is what a request is after its first step: its tally, or its error.
func begun(m Machine, tally func() string, result func() error) string {
	m.Step(0, Start{}, nil)
	if m.Done() {
		return result().Error()
	}
	return tally()
}

var k1 = kv.Key{Bucket: "mybucket", Name: "k1"}

func beginPut(t *testing.T, o kv.WriteOptions) string {
	p := NewPut(calm(t, "n1"), PutRequest{Key: k1, Options: o})
	return begun(p, func() string { return p.tally.String() }, func() error { _, err := p.Result(); return err })
}

func beginGet(t *testing.T, o kv.ReadOptions) string {
	g := NewGet(calm(t, "n1"), GetRequest{Key: k1, Options: o})
	return begun(g, func() string { return g.tally.String() }, func() error { _, err := g.Result(); return err })
}

// beginDelete shows both tallies: that of the read, and that which the write will have.
func beginDelete(t *testing.T, o kv.WriteOptions) string {
	d := NewDelete(calm(t, "n1"), PutRequest{Key: k1, Options: o})
	return begun(d, func() string {
		write := NewPut(d.view, d.req)
		if err := write.resolve(); err != nil {
			return err.Error()
		}
		return d.get.tally.String() + " then " + write.tally.String()
	}, func() error { _, err := d.Result(); return err })
}

// replicas is how a tally of three begins.
const (
	three = ": pending (n3 . n1 . n2 .)"
	two   = ": pending (n3 . n1 .)"
)

func TestOptionsOfAPut(t *testing.T) {
	for name, tc := range map[string]struct {
		o    kv.WriteOptions
		want string
	}{
		"nothing is asked":                 {kv.WriteOptions{}, "W 0/2" + three},
		"W by number":                      {kv.WriteOptions{W: 3}, "W 0/3" + three},
		"W one":                            {kv.WriteOptions{W: kv.One}, "W 0/1" + three},
		"W quorum":                         {kv.WriteOptions{W: kv.Majority}, "W 0/2" + three},
		"W all":                            {kv.WriteOptions{W: kv.All}, "W 0/3" + three},
		"W none still needs one":           {kv.WriteOptions{W: kv.None}, "DW 0/1" + three},
		"W none, DW none":                  {kv.WriteOptions{W: kv.None, DW: kv.None}, "DW 0/1" + three},
		"W none, DW two":                   {kv.WriteOptions{W: kv.None, DW: 2}, "DW 0/2" + three},
		"W of more than there are":         {kv.WriteOptions{W: 4}, "W is 4; there are 3 replicas"},
		"W below zero, and no word":        {kv.WriteOptions{W: -9}, "W is -9; it cannot be negative"},
		"DW by number":                     {kv.WriteOptions{DW: 2}, "W 0/2, DW 0/2" + three},
		"DW none is one":                   {kv.WriteOptions{DW: kv.None}, "W 0/2, DW 0/1" + three},
		"DW all":                           {kv.WriteOptions{DW: kv.All}, "W 0/2, DW 0/3" + three},
		"DW of more than there are":        {kv.WriteOptions{DW: 4}, "DW is 4; there are 3 replicas"},
		"PW by number":                     {kv.WriteOptions{PW: 1}, "W 0/2, PW 0/1" + three},
		"PW quorum":                        {kv.WriteOptions{PW: kv.Majority}, "W 0/2, PW 0/2" + three},
		"PW none":                          {kv.WriteOptions{PW: kv.None}, "W 0/2" + three},
		"PW of more than there are":        {kv.WriteOptions{PW: 4}, "PW is 4; there are 3 replicas"},
		"node_confirms":                    {kv.WriteOptions{NodeConfirms: 2}, "W 0/2, node_confirms 0/2" + three},
		"node_confirms of too many":        {kv.WriteOptions{NodeConfirms: 4}, "node_confirms is 4; there are 3 replicas"},
		"node_confirms below zero":         {kv.WriteOptions{NodeConfirms: -1}, "node_confirms is -1; there are 3 replicas"},
		"all at once":                      {kv.WriteOptions{W: 1, DW: 2, PW: 3, NodeConfirms: 1}, "W 0/1, DW 0/2, PW 0/3, node_confirms 0/1" + three},
		"a smaller N":                      {kv.WriteOptions{N: 2, W: kv.All}, "W 0/2" + two},
		"a smaller N, a W of more":         {kv.WriteOptions{N: 2, W: 3}, "W is 3; there are 2 replicas"},
		"an N of one":                      {kv.WriteOptions{N: 1, W: 2}, "W is 2; there is 1 replica"},
		"an N of more than the bucket's":   {kv.WriteOptions{N: 4}, "N must be from 1 to the bucket's 3"},
		"an N below zero":                  {kv.WriteOptions{N: -1}, "N must be from 1 to the bucket's 3"},
		"R is not a put's, but a delete's": {kv.WriteOptions{R: 9, PR: 9}, "W 0/2" + three},
		"the longest time-out":             {kv.WriteOptions{Timeout: kv.MaxTimeout}, "W 0/2" + three},
		"a longer time-out":                {kv.WriteOptions{Timeout: kv.MaxTimeout + 1}, "timeout must be from 0 to 24h0m0s"},
		"a time-out below zero":            {kv.WriteOptions{Timeout: -1}, "timeout must be from 0 to 24h0m0s"},
		"the longest linger":               {kv.WriteOptions{Linger: kv.MaxLinger}, "W 0/2" + three},
		"a longer linger":                  {kv.WriteOptions{Linger: kv.MaxLinger + 1}, "linger must be from 0 to 10s"},
		"a linger below zero":              {kv.WriteOptions{Linger: -1}, "linger must be from 0 to 10s"},
		"bytes that are no context":        {kv.WriteOptions{Context: kv.Context("x")}, "invalid context: it is not a context, or one of a later version"},
	} {
		if got := beginPut(t, tc.o); got != tc.want {
			t.Errorf("%s: %s; want %s", name, got, tc.want)
		}
	}
}

func TestOptionsOfAGet(t *testing.T) {
	for name, tc := range map[string]struct {
		o    kv.ReadOptions
		want string
	}{
		"nothing is asked":               {kv.ReadOptions{}, "R 0/2" + three},
		"R by number":                    {kv.ReadOptions{R: 3}, "R 0/3" + three},
		"R one":                          {kv.ReadOptions{R: kv.One}, "R 0/1" + three},
		"R quorum":                       {kv.ReadOptions{R: kv.Majority}, "R 0/2" + three},
		"R all":                          {kv.ReadOptions{R: kv.All}, "R 0/3" + three},
		"R none is one":                  {kv.ReadOptions{R: kv.None}, "R 0/1" + three},
		"R of more than there are":       {kv.ReadOptions{R: 4}, "R is 4; there are 3 replicas"},
		"PR by number":                   {kv.ReadOptions{PR: 3}, "R 0/2, PR 0/3" + three},
		"PR none":                        {kv.ReadOptions{PR: kv.None}, "R 0/2" + three},
		"PR of more than there are":      {kv.ReadOptions{PR: 4}, "PR is 4; there are 3 replicas"},
		"node_confirms":                  {kv.ReadOptions{NodeConfirms: 3}, "R 0/2, node_confirms 0/3" + three},
		"node_confirms of too many":      {kv.ReadOptions{NodeConfirms: 4}, "node_confirms is 4; there are 3 replicas"},
		"a smaller N":                    {kv.ReadOptions{N: 2, R: kv.All}, "R 0/2" + two},
		"an N of more than the bucket's": {kv.ReadOptions{N: 4}, "N must be from 1 to the bucket's 3"},
		"a longer time-out":              {kv.ReadOptions{Timeout: kv.MaxTimeout + 1}, "timeout must be from 0 to 24h0m0s"},
		"a longer linger":                {kv.ReadOptions{Linger: kv.MaxLinger + 1}, "linger must be from 0 to 10s"},
	} {
		if got := beginGet(t, tc.o); got != tc.want {
			t.Errorf("%s: %s; want %s", name, got, tc.want)
		}
	}
}

func TestOptionsOfADelete(t *testing.T) {
	for name, tc := range map[string]struct {
		o    kv.WriteOptions
		want string
	}{
		"nothing is asked":          {kv.WriteOptions{}, "R 0/2" + three + " then W 0/2" + three},
		"all at once":               {kv.WriteOptions{R: 1, PR: 3, W: kv.All, DW: 1, PW: 2, NodeConfirms: 2}, "R 0/1, PR 0/3" + three + " then W 0/3, DW 0/1, PW 0/2, node_confirms 0/2" + three},
		"a smaller N":               {kv.WriteOptions{N: 2, R: kv.All, W: kv.All}, "R 0/2" + two + " then W 0/2" + two},
		"R of more than there are":  {kv.WriteOptions{R: 4}, "R is 4; there are 3 replicas"},
		"PR of more than there are": {kv.WriteOptions{PR: 4}, "PR is 4; there are 3 replicas"},
		"W of more than there are":  {kv.WriteOptions{W: 4}, "W is 4; there are 3 replicas"},
		"DW of more than there are": {kv.WriteOptions{DW: 4}, "DW is 4; there are 3 replicas"},
		"PW of more than there are": {kv.WriteOptions{PW: 4}, "PW is 4; there are 3 replicas"},
		"node_confirms of too many": {kv.WriteOptions{NodeConfirms: 4}, "node_confirms is 4; there are 3 replicas"},
		"a longer time-out":         {kv.WriteOptions{Timeout: kv.MaxTimeout + 1}, "timeout must be from 0 to 24h0m0s"},
		"bytes that are no context": {kv.WriteOptions{Context: kv.Context("x")}, "invalid context: it is not a context, or one of a later version"},
	} {
		if got := beginDelete(t, tc.o); got != tc.want {
			t.Errorf("%s: %s; want %s", name, got, tc.want)
		}
	}
}

// What a key, a bucket or a value may not be is refused by every request that
// takes one, with nobody asked.
func TestNamesAndValuesAreChecked(t *testing.T) {
	v := calm(t, "n1")
	long := string(make([]byte, kv.MaxKey+1))
	for name, m := range map[string]Machine{
		"put without a key":     NewPut(v, PutRequest{Key: kv.Key{Bucket: "b"}}),
		"put of a long key":     NewPut(v, PutRequest{Key: kv.Key{Bucket: "b", Name: long}}),
		"put of a large value":  NewPut(v, PutRequest{Key: k1, Value: kv.Value{Data: make([]byte, kv.MaxObject+1)}}),
		"get without a bucket":  NewGet(v, GetRequest{Key: kv.Key{Name: "k"}}),
		"delete of a long type": NewDelete(v, PutRequest{Key: kv.Key{Type: long[:256], Bucket: "b", Name: "k"}}),
		"keys without a bucket": NewKeys(v, KeysRequest{}),
		"keys below zero":       NewKeys(v, KeysRequest{Bucket: kv.Bucket{Name: "b"}, Options: kv.ListOptions{Limit: -1}}),
		"keys for too long":     NewKeys(v, KeysRequest{Bucket: kv.Bucket{Name: "b"}, Options: kv.ListOptions{Timeout: -1}}),
		"census of no bucket":   NewCensus(v, KeysRequest{}),
		"census for too long":   NewCensus(v, KeysRequest{Bucket: kv.Bucket{Name: "b"}, Options: kv.ListOptions{Timeout: -1}}),
		"ping for too long":     NewPing(v, -1),
	} {
		effects := m.Step(0, Start{}, nil)
		if _, ok := effects[0].(Answer); len(effects) != 1 || !ok || !m.Done() {
			t.Errorf("%s: wants %v, done %v", name, effects, m.Done())
		}
		if err := outcomeOf(m); !errors.Is(err, kv.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func outcomeOf(m Machine) (err error) {
	switch m := m.(type) {
	case *Put:
		_, err = m.Result()
	case *Get:
		_, err = m.Result()
	case *Delete:
		_, err = m.Result()
	case *Keys:
		_, err = m.Result()
	case *Census:
		_, err = m.Result()
	case *Ping:
		_, err = m.Result()
	}
	return err
}

// Zero stands for never, so that no instant may become it.
func TestAnInstantBeforeTheEpochIsInThePast(t *testing.T) {
	for _, at := range []time.Time{time.Unix(-5, 0), time.Unix(0, 0), time.Unix(0, 1)} {
		p := NewPut(calm(t, "n1"), PutRequest{Key: k1, Value: kv.Value{Expires: at}})
		p.Step(0, Start{}, nil)
		if p.write.Expires == 0 || p.write.Expires > 1 {
			t.Errorf("%v expires at %d; 0 would be never", at, p.write.Expires)
		}
	}
}

// A page ends before its limit if its keys are long, and the next one goes on there.
func TestPagesAreLimitedInBytes(t *testing.T) {
	k := NewKeys(calm(t, "n1"), KeysRequest{Bucket: kv.Bucket{Name: "b"}, Options: kv.ListOptions{Limit: 1_000}})
	k.Step(0, Start{}, nil)
	long := make([]string, maxPageBytes/kv.MaxKey)
	for i := range long {
		b := make([]byte, kv.MaxKey)
		b[0] = byte(i + 1)
		long[i] = string(b)
	}
	k.Step(0, Replied{I: 0, Msg: &vnode.Listed{Keys: long, Last: long[len(long)-1], More: true}}, nil)
	page, err := k.Result()
	if !k.Done() || err != nil || len(page.Keys) != len(long) || page.Next == "" {
		t.Errorf("done %v with %d of %d keys, next %q, %v", k.Done(), len(page.Keys), len(long), page.Next, err)
	}
}

// A listing of many rounds asks for a few ticks, not for one in each round.
func TestKeysAskForFewTicks(t *testing.T) {
	owners := make([]string, 1024)
	for i := range owners {
		owners[i] = "n1"
	}
	r, err := ring.New(owners)
	if err != nil {
		t.Fatal(err)
	}
	v := calm(t, "n1")
	v.Ring = r
	k := NewKeys(v, KeysRequest{Bucket: kv.Bucket{Name: "b"}})
	asked, wakes := 0, 0
	for effects := k.Step(0, Start{}, nil); !k.Done(); asked++ {
		for _, e := range effects {
			if _, ok := e.(Wake); ok {
				wakes++
			}
		}
		effects = k.Step(time.Duration(asked)*time.Microsecond, Replied{I: asked, Msg: &vnode.Listed{}}, nil)
	}
	if asked != len(owners) || wakes != 2 {
		t.Errorf("%d homes asked, %d ticks; want %d, and one tick besides the deadline", asked, wakes, len(owners))
	}
}

// Every partition is asked by a census, however many there are.
func TestACensusKeepsToItsWindow(t *testing.T) {
	owners := make([]string, 256)
	for i := range owners {
		owners[i] = "n1"
	}
	r, err := ring.New(owners)
	if err != nil {
		t.Fatal(err)
	}
	v := calm(t, "n1")
	v.Ring = r
	c := NewCensus(v, KeysRequest{Bucket: kv.Bucket{Name: "b"}})
	var open []int
	effects := c.Step(0, Start{}, nil)
	for n := 0; ; n++ {
		for _, e := range effects {
			if a, ok := e.(Ask); ok {
				open = append(open, a.I)
			}
		}
		if len(open) > maxCensus {
			t.Fatalf("%d asks are open", len(open))
		}
		if c.Done() {
			break
		}
		// The last asked answers first, and twice.
		i := open[len(open)-1]
		open = open[:len(open)-1]
		effects = c.Step(0, Replied{I: i, Msg: &vnode.Listed{Keys: []string{"k"}}}, nil)
		effects = c.Step(0, Replied{I: i, Msg: &vnode.Listed{}}, effects)
	}
	all, _ := c.Result()
	for i, k := range all {
		if len(k.Keys) != 1 || k.Error != "" || k.Partition.Index != i {
			t.Fatalf("partition %d answers %+v", i, k)
		}
	}
	if len(all) != len(owners) || len(open) != 0 {
		t.Errorf("%d answers, %d asks open", len(all), len(open))
	}
}
