package httpd

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb/kv"
)

func TestParametersOfARead(t *testing.T) {
	for query, want := range map[string]kv.ReadOptions{
		"":                                      {},
		"r=1&pr=2":                              {R: 1, PR: 2},
		"r=quorum&pr=all":                       {R: kv.Majority, PR: kv.All},
		"r=one&pr=0":                            {R: kv.One, PR: kv.None},
		"r=default":                             {},
		"r=%33&&":                               {R: 3},
		"n_val=2":                               {N: 2},
		"node_confirms=2":                       {NodeConfirms: 2},
		"node_confirms=default":                 {},
		"basic_quorum=true&notfound_ok=false":   {BasicQuorum: kv.On, NotFoundOK: kv.Off},
		"basic_quorum=FALSE&notfound_ok=True":   {BasicQuorum: kv.Off, NotFoundOK: kv.On},
		"basic_quorum=default":                  {},
		"sloppy_quorum=false":                   {SloppyQuorum: kv.Off},
		"sloppy_quorum=true":                    {SloppyQuorum: kv.On},
		"sloppy_quorum=default":                 {},
		"timeout=1500":                          {Timeout: 1500 * time.Millisecond},
		"timeout=86400000":                      {Timeout: kv.MaxTimeout},
		"timeout=0":                             {},
		"w=2&dw=2&pw=2&rw=2":                    {},
		"something=else&asis=true&linger=5&r=2": {R: 2},
	} {
		f := newFake()
		newClient(t, f).do("GET", k1+"?"+query, "")
		want.Tombstones = true
		if diff := cmp.Diff(want, f.read); diff != "" {
			t.Errorf("?%s: %s", query, diff)
		}
	}
}

func TestParametersOfAWrite(t *testing.T) {
	for query, want := range map[string]kv.WriteOptions{
		"":                    {},
		"w=1&dw=2&pw=3":       {W: 1, DW: 2, PW: 3},
		"w=all&dw=quorum":     {W: kv.All, DW: kv.Majority},
		"w=0":                 {W: kv.None},
		"node_confirms=1":     {NodeConfirms: 1},
		"n_val=1":             {N: 1},
		"sloppy_quorum=false": {SloppyQuorum: kv.Off},
		"sloppy_quorum=TRUE":  {SloppyQuorum: kv.On},
		"timeout=1":           {Timeout: time.Millisecond},
		"returnbody=TRUE":     {ReturnBody: true},
		"returnbody=false":    {},
		"asis=false":          {},
		"asis=default":        {},
		"r=2&pr=2&rw=2":       {},
	} {
		f := newFake()
		newClient(t, f).do("PUT", k1+"?"+query, "1", plain)
		if diff := cmp.Diff(want, f.write); diff != "" || f.writes != 1 {
			t.Errorf("?%s: %d writes, %s", query, f.writes, diff)
		}
	}
}

func TestParametersOfADelete(t *testing.T) {
	for query, want := range map[string]kv.WriteOptions{
		"r=1&pr=1&w=2&dw=3&pw=3": {R: 1, PR: 1, W: 2, DW: 3, PW: 3},
		"rw=2":                   {R: 2, W: 2},
		"rw=2&w=1":               {W: 1},
		"rw=2&r=1":               {R: 1},
		"timeout=7":              {Timeout: 7 * time.Millisecond},
		"sloppy_quorum=false":    {SloppyQuorum: kv.Off},
	} {
		f := newFake()
		newClient(t, f).do("DELETE", k1+"?"+query, "")
		if diff := cmp.Diff(want, f.write); diff != "" || f.writes != 1 {
			t.Errorf("?%s: %d writes, %s", query, f.writes, diff)
		}
	}
}

func TestParametersOfOurOwnRoutes(t *testing.T) {
	f := newFake()
	c := newClient(t, f)
	c.want(404, "GET", "/_tanodb"+k1+"?linger=250&head=true&tombstones=true&r=2", "")
	want := kv.ReadOptions{R: 2, Linger: 250 * time.Millisecond, Head: true, Tombstones: true}
	if diff := cmp.Diff(want, f.read); diff != "" {
		t.Error(diff)
	}
	c.want(200, "PUT", "/_tanodb"+k1+"?linger=10000&w=3&sloppy_quorum=false", "1", plain)
	if diff := cmp.Diff(kv.WriteOptions{W: 3, Linger: kv.MaxLinger, SloppyQuorum: kv.Off}, f.write); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"nonsense", "vtag", "keys", "W"} {
		w := c.want(400, "GET", "/_tanodb"+k1+"?"+name+"=1", "")
		if !strings.Contains(w.Body.String(), `there is no query parameter \"`+name+`\"`) {
			t.Errorf("body %s", w.Body)
		}
	}
}

func TestParametersThatCannotBeMeant(t *testing.T) {
	quorum := func(name string) string {
		return name + " query parameter must be an integer or one of the following words: 'one', 'quorum' or 'all'\n"
	}
	for query, want := range map[string]string{
		"r=x":                   quorum("r"),
		"r=-1":                  quorum("r"),
		"r=":                    quorum("r"),
		"r":                     quorum("r"),
		"pr=1.5":                quorum("pr"),
		"w=two":                 quorum("w"),
		"dw=99999999999999":     quorum("dw"),
		"pw=%00":                quorum("pw"),
		"rw=QUORUM":             quorum("rw"),
		"basic_quorum=yes":      "basic_quorum query parameter must be true or false\n",
		"notfound_ok=1":         "notfound_ok query parameter must be true or false\n",
		"sloppy_quorum=1":       "sloppy_quorum query parameter must be true or false\n",
		"returnbody=x":          "returnbody query parameter must be true or false\n",
		"timeout=x":             "Bad timeout value \"x\"\n",
		"timeout=-1":            "Bad timeout value \"-1\"\n",
		"timeout=86400001":      "Bad timeout value \"86400001\"\n",
		"timeout=1e3":           "Bad timeout value \"1e3\"\n",
		"n_val=x":               "n_val query parameter must be an integer\n",
		"node_confirms=-1":      quorum("node_confirms"),
		"n_val=4294967296":      "n_val query parameter is too large\n",
		"r=%zz":                 "r query parameter has a percent sign that begins no escape\n",
		"%=1":                   "query parameter has a percent sign that begins no escape\n",
		"n_val=4":               "Specified w/dw/pw/node_confirms values invalid for bucket n value of 3\n",
		"r=4&w=4":               "Specified w/dw/pw/node_confirms values invalid for bucket n value of 3\n",
		"pr=4&pw=4":             "Specified w/dw/pw/node_confirms values invalid for bucket n value of 3\n",
		"node_confirms=4":       "Specified w/dw/pw/node_confirms values invalid for bucket n value of 3\n",
		"timeout=5&r=1&r=x&w=1": quorum("r"),
	} {
		for _, method := range []string{"GET", "HEAD", "PUT", "POST", "DELETE"} {
			c := newClient(t, newFake())
			w := c.want(400, method, k1+"?"+query, "1", plain)
			if method != "HEAD" {
				c.body(w, want)
			}
			c.want(404, "GET", k1, "")
		}
	}
}

// What is not done as it was asked for is refused, as over Protocol Buffers.
func TestAVersionIsNeverStoredAsItIs(t *testing.T) {
	f := newFake()
	c := newClient(t, f)
	c.body(c.want(400, "PUT", k1+"?asis=true", "1", plain), "asis is not supported: a version is always made by the vnode that coordinates the write\n")
	c.want(400, "POST", "/buckets/b/keys?asis=TRUE", "1", plain)
	c.body(c.want(400, "PUT", k1+"?asis=x", "1", plain), "asis query parameter must be true or false\n")
	if f.writes != 0 {
		t.Errorf("%d writes were made", f.writes)
	}
}

// The words of node_confirms go by the bucket's n_val.
func TestNodesThatConfirmInWords(t *testing.T) {
	n := openNode(t)
	if err := n.SetBucketProps(t.Context(), kv.Bucket{Name: "b"}, kv.Properties{{Name: "n_val", Value: "1"}}); err != nil {
		t.Fatal(err)
	}
	c := &client{t, New(n, Options{})}
	for _, word := range []string{"one", "quorum", "all"} {
		c.want(204, "PUT", "/buckets/b/keys/k?node_confirms="+word, "1", plain)
		c.want(200, "GET", "/buckets/b/keys/k?node_confirms="+word, "")
	}
	c.body(c.want(503, "PUT", "/buckets/c/keys/k?node_confirms=all", "1", plain), "node_confirms-value unsatisfied: 0/3\n") // one node holds all replicas
	c.body(c.want(503, "PUT", "/buckets/c/keys/k?n_val=2&node_confirms=all", "1", plain), "node_confirms-value unsatisfied: 0/2\n")
	c.want(204, "PUT", "/buckets/c/keys/k?node_confirms=one", "1", plain)
}
