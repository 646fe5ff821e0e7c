package membership_test

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/kv"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// quickVerifier is one that costs nothing.
func quickVerifier(t testing.TB, password string) string {
	t.Helper()
	v, err := membership.MakeVerifier(password, []byte("saltsalt"), 2)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// change carries out one change; the text of its refusal, or nothing.
func change(t *testing.T, s *membership.State, c membership.SetSecurity) (*membership.State, string) {
	t.Helper()
	id := membership.CommandID{1, byte(s.Epoch()), byte(s.Epoch() >> 8)}
	command, err := membership.DecodeCommand(membership.EncodeCommand(c)) // as it travels
	if err != nil {
		t.Fatal(err)
	}
	s = s.Apply(id, command)
	if diff := gocmp.Diff(string(s.Encode()), string(decoded(t, s).Encode())); diff != "" {
		t.Fatal(diff)
	}
	if err, _ := s.Result(id); err != nil {
		return s, err.Error()
	}
	return s, ""
}

func decoded(t *testing.T, s *membership.State) *membership.State {
	t.Helper()
	got, err := membership.DecodeState(s.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// all carries out changes, none of which may be refused.
func all(t *testing.T, s *membership.State, cs ...membership.SetSecurity) *membership.State {
	t.Helper()
	for _, c := range cs {
		var refused string
		if s, refused = change(t, s, c); refused != "" {
			t.Fatalf("%+v: %s", c, refused)
		}
	}
	return decoded(t, s) // and what comes of it after a restart
}

func groups(names ...string) *[]string { return &names }

func scope(typ, bucket string) membership.Scope {
	return membership.Scope{Type: typ, Bucket: []byte(bucket)}
}

func TestGrants(t *testing.T) {
	s := all(t, cluster(t, 3, 8),
		membership.SetSecurity{Do: membership.SecurityAddGroup, Names: []string{"staff"}},
		membership.SetSecurity{Do: membership.SecurityAddGroup, Names: []string{"shops"}, Groups: groups("staff")},
		membership.SetSecurity{Do: membership.SecurityAlterGroup, Names: []string{"staff"}, Groups: groups("shops")}, // a circle
		membership.SetSecurity{Do: membership.SecurityAddUser, Names: []string{"anna"}, Groups: groups("shops")},
		membership.SetSecurity{Do: membership.SecurityAddUser, Names: []string{"ben"}, Verifier: quickVerifier(t, "x")},
		membership.SetSecurity{Do: membership.SecurityGrant, Names: []string{"staff"}, Permissions: []string{"riak_kv.get"}, Scope: scope("carts", "")},
		membership.SetSecurity{Do: membership.SecurityGrant, Names: []string{"ben"}, Permissions: []string{"riak_kv.get", "riak_kv.put"}, Scope: scope("default", "\x00/b")},
		membership.SetSecurity{Do: membership.SecurityGrant, Names: []string{"all"}, Permissions: []string{"riak_kv.index"}, Scope: membership.Scope{Any: true}},
	).Security()
	for _, tt := range []struct {
		user, permission, typ, bucket string
		want                          bool
	}{
		{"anna", "riak_kv.get", "carts", "b", true}, // by a group of a group
		{"anna", "riak_kv.get", "carts", "", true},
		{"anna", "riak_kv.get", "", "b", false},
		{"anna", "riak_kv.put", "carts", "b", false},
		{"ben", "riak_kv.put", "", "\x00/b", true},
		{"ben", "riak_kv.put", "default", "\x00/b", true},
		{"ben", "riak_kv.put", "", "b", false},
		{"ben", "riak_kv.put", "", "", false},
		{"ben", "riak_kv.get", "carts", "\x00/b", false},
		{"ben", "riak_kv.index", "any", "any", true},
		{"staff", "riak_kv.get", "carts", "b", false}, // a group is nobody
		{"all", "riak_kv.index", "", "b", false},
		{"", "riak_kv.index", "", "b", false},
		{"stranger", "riak_kv.index", "", "b", false},
	} {
		if got := s.May(tt.user, tt.permission, kv.Bucket{Type: tt.typ, Name: tt.bucket}); got != tt.want {
			t.Errorf("%+v: %t", tt, got)
		}
	}
	if s.MayAnywhere("anna", "riak_kv.get") || !s.MayAnywhere("ben", "riak_kv.index") {
		t.Error("MayAnywhere")
	}
}

// Of sources the narrowest counts, and of two that are as narrow that of the user.
func TestSources(t *testing.T) {
	s := all(t, cluster(t, 3, 8),
		membership.SetSecurity{Do: membership.SecurityAddUser, Names: []string{"anna"}},
		membership.SetSecurity{Do: membership.SecurityAddUser, Names: []string{"ben"}},
		membership.SetSecurity{Do: membership.SecurityAddSource, Names: []string{"all"}, CIDR: prefix("10.0.0.0/8"), Method: "password"},
		membership.SetSecurity{Do: membership.SecurityAddSource, Names: []string{"anna"}, CIDR: prefix("10.0.0.0/8"), Method: "certificate"},
		membership.SetSecurity{Do: membership.SecurityAddSource, Names: []string{"all"}, CIDR: prefix("10.1.0.0/16"), Method: "trust"},
		membership.SetSecurity{Do: membership.SecurityAddSource, Names: []string{"ben"}, CIDR: prefix("fd00::/8"), Method: "trust"},
		membership.SetSecurity{Do: membership.SecurityAddSource, Names: []string{"ben"}, CIDR: prefix("fd00::/8"), Method: "password"}, // in its place
	)
	for line, want := range map[string]string{
		"anna 10.0.0.1": "certificate", "ben 10.0.0.1": "password", "anna 10.1.0.1": "trust", "anna 11.0.0.1": "", "anna ::1": "",
		"ben fd00::1": "password", "ben fd00::1%eth0": "password", "anna fd00::1": "", "ben ::ffff:10.1.0.1": "trust",
	} {
		user, at, _ := strings.Cut(line, " ")
		if got := s.Security().Method(user, netip.MustParseAddr(at)); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	if got := s.Security().Method("anna", netip.Addr{}); got != "" {
		t.Errorf("from nowhere: %q", got)
	}
	s = all(t, s, membership.SetSecurity{Do: membership.SecurityDelUser, Names: []string{"ben"}})
	if got := s.Security().Method("ben", netip.MustParseAddr("fd00::1")); got != "" {
		t.Errorf("after ben is gone: %q", got)
	}
}

func TestRefusedChangesOfSecurity(t *testing.T) {
	s := all(t, cluster(t, 3, 8),
		membership.SetSecurity{Do: membership.SecurityAddUser, Names: []string{"anna"}},
		membership.SetSecurity{Do: membership.SecurityAddGroup, Names: []string{"staff"}},
	)
	before := string(s.Encode())
	for want, c := range map[string]membership.SetSecurity{
		"already":               {Do: membership.SecurityAddUser, Names: []string{"staff"}},
		"there is no user":      {Do: membership.SecurityDelUser, Names: []string{"staff"}},
		"there is no group":     {Do: membership.SecurityAlterGroup, Names: []string{"anna"}},
		"no group named":        {Do: membership.SecurityAlterUser, Names: []string{"anna"}, Groups: groups("anna")},
		"no name of":            {Do: membership.SecurityAddUser, Names: []string{"a b"}},
		"none of all":           {Do: membership.SecurityAddUser, Names: []string{"any"}},
		"has one name":          {Do: membership.SecurityAddUser},
		"cannot have this":      {Do: membership.SecurityAddUser, Names: []string{"x"}, Verifier: "plain text"},
		"group cannot":          {Do: membership.SecurityEnable},
		"range of addresses":    {Do: membership.SecurityAddSource, Names: []string{"all"}, CIDR: netip.PrefixFrom(netip.MustParseAddr("10.0.0.1"), 8), Method: "trust"},
		"range of addresses, ":  {Do: membership.SecurityAddSource, Names: []string{"all"}, Method: "trust"},
		"way to prove":          {Do: membership.SecurityAddSource, Names: []string{"all"}, CIDR: prefix("10.0.0.0/8"), Method: "pam"},
		"no user named":         {Do: membership.SecurityAddSource, Names: []string{"staff"}, CIDR: prefix("10.0.0.0/8"), Method: "trust"},
		"has no source":         {Do: membership.SecurityDelSource, Names: []string{"all"}, CIDR: prefix("10.0.0.0/8")},
		"is no permission":      {Do: membership.SecurityGrant, Names: []string{"all"}, Permissions: []string{"x"}, Scope: membership.Scope{Any: true}},
		"on any alone":          {Do: membership.SecurityGrant, Names: []string{"all"}, Permissions: []string{"tanodb.admin"}, Scope: scope("default", "")},
		"any is all":            {Do: membership.SecurityGrant, Names: []string{"all"}, Permissions: []string{"riak_kv.get"}, Scope: membership.Scope{Any: true, Type: "t"}},
		"name of a bucket type": {Do: membership.SecurityGrant, Names: []string{"all"}, Permissions: []string{"riak_kv.get"}, Scope: scope("any", "")},
		"no user and no group":  {Do: membership.SecurityGrant, Names: []string{"stranger"}, Permissions: []string{"riak_kv.get"}, Scope: membership.Scope{Any: true}},
		"somebody who gets it":  {Do: membership.SecurityGrant, Permissions: []string{"riak_kv.get"}, Scope: membership.Scope{Any: true}},
		"nothing to be done":    {Do: "dance", Names: []string{"anna"}},
	} {
		if want == "group cannot" {
			want = "nobody could change security"
		}
		after, refused := change(t, s, c)
		if !strings.Contains(refused, strings.TrimSuffix(want, ", ")) {
			t.Errorf("%+v: %q, want %q", c, refused, want)
		}
		if diff := gocmp.Diff(s.Security().Roles, after.Security().Roles); diff != "" || string(s.Encode()) != before {
			t.Errorf("%+v has changed something: %s", c, diff)
		}
	}
}

// As long as security is enabled somebody can come in who may change it.
func TestNobodyLocksHimselfOut(t *testing.T) {
	s := all(t, cluster(t, 3, 8),
		membership.SetSecurity{Do: membership.SecurityAddUser, Names: []string{"anna"}, Verifier: quickVerifier(t, "x")},
		membership.SetSecurity{Do: membership.SecurityGrant, Names: []string{"anna"}, Permissions: []string{"tanodb.admin"}, Scope: membership.Scope{Any: true}},
	)
	if _, refused := change(t, s, membership.SetSecurity{Do: membership.SecurityEnable}); refused == "" {
		t.Error("enabled without a source")
	}
	s = all(t, s,
		membership.SetSecurity{Do: membership.SecurityAddSource, Names: []string{"anna"}, CIDR: prefix("0.0.0.0/0"), Method: "password"},
		membership.SetSecurity{Do: membership.SecurityEnable},
	)
	for _, c := range []membership.SetSecurity{
		{Do: membership.SecurityDelUser, Names: []string{"anna"}},
		{Do: membership.SecurityDelSource, Names: []string{"anna"}, CIDR: prefix("0.0.0.0/0")},
		{Do: membership.SecurityRevoke, Names: []string{"anna"}, Permissions: []string{"tanodb.admin"}, Scope: membership.Scope{Any: true}},
	} {
		if _, refused := change(t, s, c); !strings.Contains(refused, "nobody could change security any more") {
			t.Errorf("%+v: %q", c, refused)
		}
	}
	if s = all(t, s, membership.SetSecurity{Do: membership.SecurityDisable}); s.Security().Enabled || !s.Security().Known() {
		t.Error("it cannot be disabled, or has forgotten")
	}
}

func TestVerifiers(t *testing.T) {
	// The example of RFC 7677, section 3: its salt, iterations and password. The keys are
	// those that give its proofs.
	salt := []byte("\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81")
	v, err := membership.MakeVerifier("pencil", salt, 4096)
	if err != nil || !strings.HasPrefix(v, "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=") {
		t.Errorf("%s, %v", v, err)
	}
	for password, want := range map[string]bool{"pencil": true, "Pencil": false, "": false, "pencil\x00": false} {
		if membership.Verify(v, password) != want {
			t.Errorf("%q is not %t", password, want)
		}
	}
	for _, bad := range []string{"", "x", v + "$", strings.Replace(v, "4096", "0", 1), strings.Replace(v, "4096", "99999999999", 1), strings.Replace(v, "SHA-256", "SHA-1", 1), strings.Replace(v, "W22Z", "!!!!", 1)} {
		if membership.Verify(bad, "pencil") {
			t.Errorf("%q verifies", bad)
		}
	}
}

// A state that cannot be is refused, whatever its security says.
func TestDamagedSecurity(t *testing.T) {
	s := all(t, cluster(t, 3, 8), membership.SetSecurity{Do: membership.SecurityAddUser, Names: []string{"anna"}, Verifier: quickVerifier(t, "x")})
	text := string(s.Encode())
	for _, change := range [][2]string{
		{`"name":"anna"`, `"name":"all"`}, {`"name":"anna"`, `"name":"anna","groups":["x"]`}, {`"name":"anna"`, `"name":"anna","group":true`},
		{`SCRAM-SHA-256`, `MD5`}, {`"security":{`, `"security":{"grants":[{"role":"anna","permission":"x","scope":{"any":true}}],`},
		{`"security":{`, `"security":{"sources":[{"user":"x","cidr":"10.0.0.0/8","method":"trust"}],`}, {`"security":{`, `"security":{"x":1,`},
	} {
		bad := strings.Replace(text, change[0], change[1], 1)
		if bad == text {
			t.Fatalf("%s is not in %s", change[0], text)
		}
		if _, err := membership.DecodeState([]byte(bad)); err == nil {
			t.Errorf("%s in place of %s is taken", change[1], change[0])
		}
	}
}

// Whatever range somebody gives, it is refused, or says who is in it.
func FuzzSource(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "::/0", "::ffff:10.0.0.0/104", "10.0.0.1/33", "fe80::1%eth0/64", "x"} {
		f.Add(s, "10.0.0.1")
	}
	base := membership.SetSecurity{Do: membership.SecurityAddSource, Names: []string{"all"}, Method: "trust"}
	f.Fuzz(func(t *testing.T, cidr, from string) {
		c := base
		var err error
		if c.CIDR, err = netip.ParsePrefix(cidr); err != nil {
			return
		}
		s, refused := change(t, cluster(t, 3, 8), c)
		at, err := netip.ParseAddr(from)
		if refused != "" || err != nil {
			return
		}
		want := ""
		if c.CIDR.Contains(at.Unmap().WithZone("")) {
			want = "trust"
		}
		if got := s.Security().Method("anybody", at); got != want {
			t.Errorf("%s in %s: %q, want %q", from, cidr, got, want)
		}
	})
}

// A source counts where no narrower one, and none of the user's own, hides it.
func TestHiddenSourceLetsNobodyIn(t *testing.T) {
	source := func(user, cidr, method string) membership.SetSecurity {
		return membership.SetSecurity{Do: membership.SecurityAddSource, Names: []string{user}, CIDR: prefix(cidr), Method: method}
	}
	for name, c := range map[string]struct {
		sources []membership.SetSecurity // anna has no password
		in      bool
	}{
		"none":                       {nil, false},
		"for all":                    {[]membership.SetSecurity{source("all", "10.0.0.0/8", "trust")}, true},
		"hers over that of all":      {[]membership.SetSecurity{source("all", "10.0.0.0/8", "trust"), source("anna", "10.0.0.0/8", "password")}, false},
		"the end is left":            {[]membership.SetSecurity{source("all", "10.0.0.0/8", "trust"), source("anna", "10.0.0.0/9", "password")}, true},
		"the beginning is left":      {[]membership.SetSecurity{source("all", "10.0.0.0/8", "trust"), source("anna", "10.128.0.0/9", "password")}, true},
		"both halves are hidden":     {[]membership.SetSecurity{source("all", "10.0.0.0/8", "trust"), source("anna", "10.0.0.0/9", "password"), source("anna", "10.128.0.0/9", "password")}, false},
		"one address in the middle":  {[]membership.SetSecurity{source("all", "10.0.0.0/8", "password"), source("anna", "10.7.7.7/32", "certificate")}, true},
		"the last address there is":  {[]membership.SetSecurity{source("all", "0.0.0.0/0", "password"), source("anna", "255.255.255.255/32", "trust")}, true},
		"all addresses of version 6": {[]membership.SetSecurity{source("all", "::/0", "password")}, false},
	} {
		s := all(t, cluster(t, 3, 8),
			membership.SetSecurity{Do: membership.SecurityAddUser, Names: []string{"anna"}},
			membership.SetSecurity{Do: membership.SecurityGrant, Names: []string{"anna"}, Permissions: []string{"tanodb.admin"}, Scope: membership.Scope{Any: true}},
		)
		s = all(t, s, c.sources...)
		if _, refused := change(t, s, membership.SetSecurity{Do: membership.SecurityEnable}); (refused == "") != c.in {
			t.Errorf("%s: %q; want her to come in: %t", name, refused, c.in)
		}
	}
}

// Whatever is stored as a verifier, it is looked at without a panic; and of one that was made
// for a password that one is right, and no other.
func FuzzVerifier(f *testing.F) {
	f.Add("SCRAM-SHA-256$2:c2FsdHNhbHQ=$x:y", "right", "wrong")
	f.Add("SCRAM-SHA-256$0:$:", "", "\x00")
	f.Add("$$", "a", "a ")
	f.Fuzz(func(t *testing.T, stored, password, other string) {
		const dear = 5 // digits: to check one that says more takes too long here
		if count, _, _ := strings.Cut(strings.TrimPrefix(stored, "SCRAM-SHA-256$"), ":"); len(count) < dear {
			membership.Verify(stored, password)
		}
		made, err := membership.MakeVerifier(password, []byte("saltsalt"), 2)
		if err != nil {
			if !strings.Contains(password, "\x00") {
				t.Errorf("%q: %v", password, err)
			}
			return
		}
		if !membership.Verify(made, password) {
			t.Errorf("%q is not the password of what was made for it", password)
		}
		if other != password && membership.Verify(made, other) {
			t.Errorf("%q is taken for %q", other, password)
		}
	})
}

// Whatever is granted, taken back, and put into groups, in circles too, a user may what a
// search through all grants and all groups finds, and nothing else.
func FuzzGrants(f *testing.F) {
	f.Add([]byte{0, 1, 2, 9, 17, 33, 200})
	f.Add([]byte("groups in groups, and grants to all of them"))
	names := []string{"g0", "g1", "g2", "anna", "ben"}
	scopes := []membership.Scope{{Any: true}, scope("default", ""), scope("carts", ""), scope("default", "b"), scope("carts", "b"), scope("carts", "/b")}
	permissions := []string{membership.PermGet, membership.PermPut}
	f.Fuzz(func(t *testing.T, steps []byte) {
		s := cluster(t, 3, 8)
		for i, name := range names {
			do := membership.SecurityAddUser
			if i < 3 {
				do = membership.SecurityAddGroup
			}
			s, _ = change(t, s, membership.SetSecurity{Do: do, Names: []string{name}})
		}
		for _, b := range steps[:min(len(steps), 32)] {
			who := int(b>>2) % (len(names) + 1)
			c := membership.SetSecurity{Permissions: permissions[b>>7:][:1], Scope: scopes[int(b>>3)%len(scopes)]}
			switch b % 4 {
			case 0:
				c = membership.SetSecurity{Do: membership.SecurityAlterUser, Groups: groups(names[(b>>5)%3], names[(b>>6)%3])}
				if who < 3 {
					c.Do = membership.SecurityAlterGroup
				}
			case 1:
				c.Do = membership.SecurityRevoke
			default:
				c.Do = membership.SecurityGrant
			}
			c.Names = []string{append(names, membership.RoleAll)[who]}
			s, _ = change(t, s, c) // what is refused changes nothing
		}
		for _, user := range []string{"anna", "ben"} {
			for _, p := range permissions {
				for _, b := range []kv.Bucket{{Name: "b"}, {Type: "default", Name: "x"}, {Type: "carts", Name: "b"}, {Type: "carts", Name: "/b"}, {Type: "carts/", Name: "b"}} {
					if got, want := s.Security().May(user, p, b), found(s.Security(), user, p, b); got != want {
						t.Fatalf("%s may %s of %+v: %t; %+v", user, p, b, got, s.Security().Grants)
					}
				}
			}
		}
	})
}

// found looks for a grant one by one.
func found(s *membership.Security, user, permission string, b kv.Bucket) bool {
	roles := []string{user, membership.RoleAll}
	for i := 0; i < len(roles); i++ {
		r, _ := s.Role(roles[i])
		for _, g := range r.Groups {
			if !slices.Contains(roles, g) {
				roles = append(roles, g)
			}
		}
	}
	typ := cmp.Or(b.Type, "default")
	return slices.ContainsFunc(s.Grants, func(g membership.Grant) bool {
		at := g.Scope
		within := at.Any || at.Type == typ && (len(at.Bucket) == 0 || string(at.Bucket) == b.Name)
		return within && g.Permission == permission && slices.Contains(roles, g.Role)
	})
}
