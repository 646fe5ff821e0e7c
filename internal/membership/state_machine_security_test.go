package membership_test

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/kv"
)

// The words that changes of security are drawn from, a few of them wrong.
var (
	secUsers    = []string{"anna", "ben"}
	secGroups   = []string{"shops", "staff"}
	secNames    = slices.Concat(secUsers, secGroups, []string{membership.RoleAll, "nobody", "a:b"})
	secRanges   = []string{"10.0.0.0/8", "10.1.0.0/16", "10.1.1.1/32", "0.0.0.0/0"}
	secFrom     = []string{"10.0.0.1", "10.1.0.1", "10.1.1.1", "11.0.0.1", "::1"} // one within each range alone, and one in none
	secMethods  = []string{membership.MethodTrust, membership.MethodPassword, membership.MethodCertificate, "pam"}
	secPerms    = []string{membership.PermGet, membership.PermPut, membership.PermAdmin, "riak_kv.dance"}
	secScopes   = []membership.Scope{{Any: true}, {Type: "default"}, scope("default", "b"), scope("t", "b"), {Any: true, Type: "t"}}
	secBuckets  = []kv.Bucket{{}, {Name: "b"}, {Name: "c"}, {Type: "t", Name: "b"}}
	secVerifier = sync.OnceValue(func() string {
		v, err := membership.MakeVerifier("secret", []byte("saltsalt"), 2)
		if err != nil {
			panic(err) // it is made of constants
		}
		return v
	})
)

// rules is who may do what, written down in the simplest way: the second implementation
// that Security is held against.
type rules struct {
	enabled  bool
	isGroup  map[string]bool // by role
	in       map[string][]string
	password map[string]bool
	sources  map[ruleSource]string // the method
	grants   map[ruleGrant]bool
}

type ruleSource struct {
	user string
	cidr netip.Prefix
}

type ruleGrant struct {
	role, permission, typ, bucket string
	any                           bool
}

func newRules() *rules {
	return &rules{isGroup: map[string]bool{}, in: map[string][]string{}, password: map[string]bool{}, sources: map[ruleSource]string{}, grants: map[ruleGrant]bool{}}
}

func (r *rules) clone() *rules {
	return &rules{r.enabled, maps.Clone(r.isGroup), maps.Clone(r.in), maps.Clone(r.password), maps.Clone(r.sources), maps.Clone(r.grants)}
}

// do carries out a change, or reports that it is to be refused.
func (r *rules) do(c membership.SetSecurity) bool {
	ok := false
	switch c.Do {
	case membership.SecurityEnable, membership.SecurityDisable:
		r.enabled, ok = c.Do == membership.SecurityEnable, true
	case membership.SecurityAddSource, membership.SecurityDelSource:
		ok = r.source(c)
	case membership.SecurityGrant, membership.SecurityRevoke:
		ok = r.grant(c)
	default:
		ok = len(c.Names) == 1 && r.role(c, c.Names[0])
	}
	return ok && (!r.enabled || r.open())
}

func (r *rules) role(c membership.SetSecurity, name string) bool {
	group := c.Do == membership.SecurityAddGroup || c.Do == membership.SecurityAlterGroup || c.Do == membership.SecurityDelGroup
	was, found := r.isGroup[name]
	switch c.Do {
	case membership.SecurityAddUser, membership.SecurityAddGroup:
		if found || name == membership.RoleAll || name == "a:b" {
			return false
		}
		r.isGroup[name] = group
	case membership.SecurityDelUser, membership.SecurityDelGroup:
		if !found || was != group {
			return false
		}
		r.remove(name)
		return true
	default:
		if !found || was != group || c.Do != membership.SecurityAlterUser && c.Do != membership.SecurityAlterGroup {
			return false
		}
	}
	if c.Groups != nil {
		for _, g := range *c.Groups {
			if !r.isGroup[g] {
				return false
			}
		}
		r.in[name] = *c.Groups
	}
	if c.Verifier != "" {
		r.password[name] = true
		return !group && c.Verifier == secVerifier()
	}
	return true
}

func (r *rules) remove(name string) {
	delete(r.isGroup, name)
	delete(r.in, name)
	delete(r.password, name)
	for x, groups := range r.in {
		r.in[x] = slices.DeleteFunc(slices.Clone(groups), func(g string) bool { return g == name })
	}
	maps.DeleteFunc(r.sources, func(s ruleSource, _ string) bool { return s.user == name })
	maps.DeleteFunc(r.grants, func(g ruleGrant, _ bool) bool { return g.role == name })
}

func (r *rules) source(c membership.SetSecurity) bool {
	for _, name := range c.Names {
		group, known := r.isGroup[name]
		s := ruleSource{name, c.CIDR}
		if (!known || group) && name != membership.RoleAll {
			return false
		}
		if c.Do == membership.SecurityAddSource {
			r.sources[s] = c.Method
			continue
		}
		if r.sources[s] == "" {
			return false
		}
		delete(r.sources, s)
	}
	return len(c.Names) > 0 && c.CIDR == c.CIDR.Masked() && (c.Do == membership.SecurityDelSource || c.Method != "pam")
}

func (r *rules) grant(c membership.SetSecurity) bool {
	if c.Scope.Any && c.Scope.Type != "" || len(c.Names) == 0 || len(c.Permissions) == 0 {
		return false
	}
	for _, name := range c.Names {
		if _, known := r.isGroup[name]; !known && name != membership.RoleAll {
			return false
		}
		for _, p := range c.Permissions {
			if p == "riak_kv.dance" || p == membership.PermAdmin && !c.Scope.Any {
				return false
			}
			g := ruleGrant{name, p, c.Scope.Type, string(c.Scope.Bucket), c.Scope.Any}
			if c.Do == membership.SecurityGrant {
				r.grants[g] = true
			} else {
				delete(r.grants, g)
			}
		}
	}
	return true
}

// method is that of the narrowest source, and of two that are as narrow of the user's.
func (r *rules) method(user string, from netip.Addr) (method string) {
	best := -1
	for s, m := range r.sources { //det:ok no two are as good
		rank := 2 * s.cidr.Bits()
		if s.user == user {
			rank++
		}
		if (s.user == user || s.user == membership.RoleAll) && s.cidr.Contains(from) && rank > best {
			best, method = rank, m
		}
	}
	return method
}

// has reports whether a role has another, by being in it.
func (r *rules) has(role, other string, seen []string) bool {
	if role == other {
		return true
	}
	for _, g := range r.in[role] {
		if !slices.Contains(seen, g) && r.has(g, other, append(seen, g)) {
			return true
		}
	}
	return false
}

// may reports whether a user may; a nil bucket is any.
func (r *rules) may(user, permission string, b *kv.Bucket) bool {
	if group, known := r.isGroup[user]; !known || group {
		return false
	}
	for g := range r.grants { //det:ok any will do
		typ := "default"
		if b != nil && b.Type != "" {
			typ = b.Type
		}
		here := g.any || b != nil && g.typ == typ && (g.bucket == "" || g.bucket == b.Name)
		if here && g.permission == permission && (g.role == membership.RoleAll || r.has(user, g.role, nil)) {
			return true
		}
	}
	return false
}

// open reports whether an administrator can come in from anywhere.
func (r *rules) open() bool {
	for user, group := range r.isGroup { //det:ok any will do
		if group || !r.may(user, membership.PermAdmin, nil) {
			continue
		}
		for _, from := range secFrom {
			if m := r.method(user, netip.MustParseAddr(from)); m == membership.MethodPassword && r.password[user] || m != "" && m != membership.MethodPassword {
				return true
			}
		}
	}
	return false
}

// security changes who may do what, and compares what comes of it.
func (w *world) security(t *rapid.T) {
	c := drawSecurity(t)
	want := w.rules.clone()
	ok := want.do(c)
	if err := w.do(t, c); (err == nil) != ok {
		t.Fatalf("%+v: %v; want it refused: %t\n%+v", c, err, !ok, w.rules)
	}
	if ok {
		w.rules = want
	}
}

func drawSecurity(t *rapid.T) membership.SetSecurity {
	c := membership.SetSecurity{
		Do: rapid.SampledFrom([]membership.SecurityChange{
			membership.SecurityEnable, membership.SecurityDisable, membership.SecurityAddUser, membership.SecurityAlterUser, membership.SecurityDelUser,
			membership.SecurityAddGroup, membership.SecurityAlterGroup, membership.SecurityDelGroup, membership.SecurityAddSource, membership.SecurityDelSource,
			membership.SecurityGrant, membership.SecurityGrant, membership.SecurityRevoke, "dance",
		}).Draw(t, "do"),
		Names: rapid.SliceOfNDistinct(rapid.SampledFrom(secNames), 0, 2, rapid.ID[string]).Draw(t, "names"),
	}
	switch c.Do {
	case membership.SecurityAddSource, membership.SecurityDelSource:
		c.CIDR = netip.MustParsePrefix(rapid.SampledFrom(append(slices.Clone(secRanges), "10.0.0.1/8")).Draw(t, "range"))
		c.Method = rapid.SampledFrom(secMethods).Draw(t, "method")
	case membership.SecurityGrant, membership.SecurityRevoke:
		c.Permissions = rapid.SliceOfN(rapid.SampledFrom(secPerms), 0, 2).Draw(t, "permissions")
		c.Scope = rapid.SampledFrom(secScopes).Draw(t, "scope")
	case membership.SecurityEnable, membership.SecurityDisable:
		c.Names = nil
	default:
		c.Names = c.Names[:min(len(c.Names), 1)]
		if rapid.Bool().Draw(t, "with groups") {
			c.Groups = groups(rapid.SliceOfN(rapid.SampledFrom(secNames[:5]), 0, 2).Draw(t, "groups")...)
		}
		c.Verifier = rapid.SampledFrom([]string{"", "", secVerifier(), "no verifier"}).Draw(t, "verifier")
	}
	if c.Do == "dance" {
		c.Names = []string{"anna"}
	}
	return c
}

// checkSecurity compares what requests go by.
func (w *world) checkSecurity(t *rapid.T) {
	t.Helper()
	s := w.s.Security()
	if s.Enabled != w.rules.enabled || s.Enabled && !w.rules.open() {
		t.Fatalf("security is enabled: %t, want %t; an administrator can come in: %t\n%+v", s.Enabled, w.rules.enabled, w.rules.open(), s)
	}
	for _, user := range secNames {
		group, known := w.rules.isGroup[user]
		if role, ok := s.User(user); ok != (known && !group) || (role.Verifier != "") != w.rules.password[user] {
			t.Fatalf("%s is a user: %t, with %+v; want %+v", user, ok, role, w.rules)
		}
		for _, from := range secFrom {
			if got, want := s.Method(user, netip.MustParseAddr(from)), w.rules.method(user, netip.MustParseAddr(from)); got != want {
				t.Fatalf("%s from %s comes in by %q, want %q\n%+v", user, from, got, want, s.Sources)
			}
		}
		for _, p := range secPerms {
			if got, want := s.MayAnywhere(user, p), w.rules.may(user, p, nil); got != want {
				t.Fatalf("%s may %s on any: %t, want %t\n%+v", user, p, got, want, s)
			}
			for _, b := range secBuckets {
				if got, want := s.May(user, p, b), w.rules.may(user, p, &b); got != want {
					t.Fatalf("%s may %s on %+v: %t, want %t\n%+v", user, p, b, got, want, s)
				}
			}
		}
	}
}

// The same with nothing but security, for so long that the rare comes up: users in groups in
// circles, an administrator who is the last one, sources that hide each other.
func TestSecurityKeepsItsPromises(t *testing.T) {
	enabled, locked := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.administered(t)
		for range rapid.IntRange(20, 80).Draw(t, "changes") {
			w.security(t)
			w.checkSecurity(t)
			if w.s.Security().Enabled {
				enabled++
			}
			if w.lockedOut() {
				locked++
			}
		}
	})
	if enabled == 0 || locked == 0 {
		t.Errorf("of all changes %d were made where security is enabled, and %d would have locked everybody out", enabled, locked)
	}
}

// administered begins with an administrator, in half of the worlds: chance seldom makes one.
func (w *world) administered(t *rapid.T) {
	if rapid.Bool().Draw(t, "from nothing") {
		return
	}
	inside := netip.MustParsePrefix("10.0.0.0/8")
	for _, c := range []membership.SetSecurity{
		{Do: membership.SecurityAddUser, Names: []string{"anna"}, Verifier: secVerifier()},
		{Do: membership.SecurityAddSource, Names: []string{"anna"}, CIDR: inside, Method: membership.MethodPassword},
		{Do: membership.SecurityGrant, Names: []string{"anna"}, Permissions: []string{membership.PermAdmin}, Scope: membership.Scope{Any: true}},
		{Do: membership.SecurityEnable},
	} {
		if err := w.do(t, c); err != nil || !w.rules.do(c) {
			t.Fatalf("%+v: %v", c, err)
		}
	}
}

// lockedOut reports whether the last change would have left nobody who could come in.
func (w *world) lockedOut() bool {
	c, ok := w.last.(membership.SetSecurity)
	after := w.rules.clone()
	after.enabled = false // then it is not refused for that
	return ok && w.rules.enabled && c.Do != membership.SecurityDisable && after.do(c) && !after.open()
}
