package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tanodb/tanodb/internal/server/api"
)

type hotCmd struct {
	Top int `help:"How many keys of each kind." default:"10"`
}

// Help is the long part of the command's help.
func (*hotCmd) Help() string {
	return `The node counts one in 16 of the requests that come through it, and forgets half of that each minute, in a table of fixed size: rates are about right, and never too high by more than ERROR. Sizes and siblings are of what its vnodes have written and its clients have read, for a day. Every node has its own: ask each with --addr.

Example:

    tanodb hot
    tanodb hot --top 3 --json --addr http://10.0.0.2:8098`
}

// Run prints the keys that stand out.
func (c *hotCmd) Run(a *app) error {
	if c.Top < 1 {
		return usagef("--top is %d; it must be 1 or more", c.Top)
	}
	ctx, cancel := a.requestContext()
	defer cancel()
	ans, err := a.ask(ctx, request{method: http.MethodGet, path: ownPrefix + "/hot", query: url.Values{"limit": {strconv.Itoa(c.Top)}}})
	if err != nil {
		return a.told(err)
	}
	var h hotKeys
	if err := ans.decode(&h.Hot); err != nil {
		return err
	}
	return a.print(h)
}

// hotKeys are for people, too.
type hotKeys struct{ api.Hot }

// String is up to three tables.
func (h hotKeys) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "node %s: about %.1f requests a second for keys\n", h.Node, h.Rate)
	if len(h.Hot.Hot) > 0 {
		t := newTable("REQUESTS/S", "ERROR", "KEY")
		for _, k := range h.Hot.Hot {
			t.row(fmt.Sprintf("%.1f", k.Rate), fmt.Sprintf("%.1f", k.Error), k.KV().String())
		}
		b.WriteString("\n" + t.String())
	}
	b.WriteString(highTable("SIZE", h.Largest, func(v int64) string { return bytesText(float64(v)) }))
	b.WriteString(highTable("SIBLINGS", h.Siblings, func(v int64) string { return strconv.FormatInt(v, 10) }))
	return b.String()
}

func highTable(what string, ks []api.HighKey, text func(int64) string) string {
	if len(ks) == 0 {
		return ""
	}
	t := newTable(what, "SEEN", "KEY")
	for _, k := range ks {
		t.row(text(k.Value), brief(time.Duration(k.AgeMS)*time.Millisecond)+" ago", k.KV().String())
	}
	return "\n" + t.String()
}
