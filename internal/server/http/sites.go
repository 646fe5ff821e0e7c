package httpd

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// A browser sends requests for any page that is open in it, from within a network that the
// page's author cannot reach, and with the password that it was given for the node. So a
// page of another site may change nothing. It cannot read either, unless its own name is
// made to lead to the node's address: then the browser takes the node for the page's site,
// and the name in the request is all that tells.

// otherSites tells requests that a page of another site has sent. What is no browser says
// nothing of sites, and may do everything.
var otherSites = http.NewCrossOriginProtection()

// elsewhere says why a request is taken for one of a page that is not this node's; empty: it
// is not.
func (g *Guard) elsewhere(r *http.Request) string {
	if err := otherSites.Check(r); err != nil {
		return "a page of another site may change nothing here: " + err.Error()
	}
	if r.TLS == nil && g.Names != nil && !g.ours(r.Host) {
		return "this node is not called " + clipped(r.Host) + ": ask for localhost, or for an address; a proxy's name belongs into its option allowed-hosts"
	}
	return ""
}

// ours reports whether the host of a request is this node by its address, or by a name that
// does not come from somebody else.
func (g *Guard) ours(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil || host == "" { // no browser leaves it out
		return true
	}
	same := func(name string) bool { return strings.EqualFold(name, host) }
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || slices.ContainsFunc(g.Names, same)
}
