package membership

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tanodb/tanodb/kv"
)

// Who may do what is part of the topology, so that all nodes agree on it and none can
// miss that it was taken away and still serve a change of the topology. The words are
// Riak's: a role is a user or a group of roles; a source says how a user proves who he
// is when he comes from an address; a grant lets a role do something to a bucket, to all
// of a type, or to any.

// The limits of what is kept.
const (
	maxRoles         = 4096
	maxRoleGroups    = 64 // of one role
	maxSources       = 4096
	maxGrants        = 16384
	maxRoleName      = 255     // bytes
	maxVerifier      = 256     // bytes
	maxSecurityBytes = 4 << 20 // of all of it, as it is sent
)

// RoleAll is the role that everybody has who is known.
const RoleAll = "all"

// The ways to prove who one is.
const (
	MethodTrust       = "trust"       // none is needed
	MethodPassword    = "password"    // a password
	MethodCertificate = "certificate" // a certificate with the user's name
)

// The permissions. Riak's have Riak's names.
const (
	PermGet         = "riak_kv.get"
	PermPut         = "riak_kv.put"
	PermDelete      = "riak_kv.delete"
	PermIndex       = "riak_kv.index"
	PermListKeys    = "riak_kv.list_keys"
	PermListBuckets = "riak_kv.list_buckets"
	PermMapReduce   = "riak_kv.mapreduce"
	PermPreflist    = "riak_kv.get_preflist"
	PermGetBucket   = "riak_core.get_bucket"
	PermSetBucket   = "riak_core.set_bucket"
	PermGetType     = "riak_core.get_bucket_type"
	PermSetType     = "riak_core.set_bucket_type"
	PermReadAdmin   = "tanodb.read_admin" // look at nodes, the cluster, metrics
	PermAdmin       = "tanodb.admin"      // change them, and who may do what
)

// Permissions are all of them.
var Permissions = []string{
	PermGet, PermPut, PermDelete, PermIndex, PermListKeys, PermListBuckets, PermMapReduce, PermPreflist,
	PermGetBucket, PermSetBucket, PermGetType, PermSetType, PermReadAdmin, PermAdmin,
}

// Role is a user, or a group.
type Role struct {
	Name     string   `json:"name"`
	Group    bool     `json:"group,omitempty"`
	Groups   []string `json:"groups,omitempty"`   // that it is in, sorted
	Verifier string   `json:"verifier,omitempty"` // of a user's password; empty: he has none
}

// Source is how a user proves who he is, from a range of addresses.
type Source struct {
	User   string       `json:"user"` // or RoleAll
	CIDR   netip.Prefix `json:"cidr"`
	Method string       `json:"method"`
}

// Scope is what a grant is about.
type Scope struct {
	Any    bool   `json:"any,omitempty"`
	Type   string `json:"type,omitempty"`   // unless Any; the default type is "default"
	Bucket []byte `json:"bucket,omitempty"` // empty: all buckets of the type, and the type itself
}

// Grant lets a role do something.
type Grant struct {
	Role       string `json:"role"`
	Permission string `json:"permission"`
	Scope      Scope  `json:"scope,omitzero"`
}

// Security is who may do what. It is never changed in place. The zero value is that of a
// cluster that knows nobody, in which everybody may do everything.
type Security struct {
	Enabled bool     `json:"enabled,omitempty"`
	Roles   []Role   `json:"roles,omitempty"`   // sorted by name
	Sources []Source `json:"sources,omitempty"` // the first that matches counts: the narrowest, of a user before that of all
	Grants  []Grant  `json:"grants,omitempty"`  // sorted

	roles   map[string]roleSet // by user, all that he is but RoleAll, he himself too
	granted map[grantKey]struct{}
}

// grantKey is a grant that can be looked up.
type grantKey struct{ role, permission, scope string }

// SecurityChange is what a SetSecurity does.
type SecurityChange string

// The changes, by the names of the commands.
const (
	SecurityEnable     SecurityChange = "enable"
	SecurityDisable    SecurityChange = "disable"
	SecurityAddUser    SecurityChange = "add-user"
	SecurityAlterUser  SecurityChange = "alter-user"
	SecurityDelUser    SecurityChange = "del-user"
	SecurityAddGroup   SecurityChange = "add-group"
	SecurityAlterGroup SecurityChange = "alter-group"
	SecurityDelGroup   SecurityChange = "del-group"
	SecurityAddSource  SecurityChange = "add-source"
	SecurityDelSource  SecurityChange = "del-source"
	SecurityGrant      SecurityChange = "grant"
	SecurityRevoke     SecurityChange = "revoke"
)

// SetSecurity changes who may do what.
type SetSecurity struct {
	Do          SecurityChange `json:"do"`
	Names       []string       `json:"names,omitempty"`       // of roles; a user or a group has one
	Groups      *[]string      `json:"groups,omitempty"`      // of a role, all of them; nil: as they are
	Verifier    string         `json:"verifier,omitempty"`    // of a user's password; empty: as it is
	CIDR        netip.Prefix   `json:"cidr,omitzero"`         // of a source
	Method      string         `json:"method,omitempty"`      // of a source that is added
	Permissions []string       `json:"permissions,omitempty"` // of grants
	Scope       Scope          `json:"scope,omitzero"`        // of grants
}

func (SetSecurity) command() {}

// Security is who may do what.
func (s *State) Security() *Security {
	if s.security == nil {
		return &Security{}
	}
	return s.security
}

// Known reports whether anything was ever set of it.
func (s *Security) Known() bool {
	return s.Enabled || len(s.Roles)+len(s.Sources)+len(s.Grants) > 0
}

// Role is the role of that name, if there is one.
func (s *Security) Role(name string) (Role, bool) {
	i, ok := s.search(name)
	if !ok {
		return Role{}, false
	}
	return s.Roles[i], true
}

func (s *Security) search(name string) (int, bool) {
	return slices.BinarySearchFunc(s.Roles, name, func(r Role, name string) int { return strings.Compare(r.Name, name) })
}

// User is the user of that name, if there is one.
func (s *Security) User(name string) (Role, bool) {
	r, ok := s.Role(name)
	return r, ok && !r.Group
}

// Method is how a user proves who he is who comes from an address; empty: he is not let in
// from there.
func (s *Security) Method(user string, from netip.Addr) string {
	from = from.Unmap().WithZone("")
	for i := range s.Sources {
		if x := &s.Sources[i]; (x.User == user || x.User == RoleAll) && x.CIDR.Contains(from) {
			return x.Method
		}
	}
	return ""
}

// TakesPasswords reports whether anybody may prove with a password who he is, from an address.
func (s *Security) TakesPasswords(from netip.Addr) bool {
	from = from.Unmap().WithZone("")
	return slices.ContainsFunc(s.Sources, func(x Source) bool { return x.Method == MethodPassword && x.CIDR.Contains(from) })
}

// May reports whether a user may do something to a bucket; one without a name is all of
// its type.
func (s *Security) May(user, permission string, b kv.Bucket) bool {
	typ := cmp.Or(b.Type, DefaultType)
	scopes := []string{Scope{Any: true}.key(), Scope{Type: typ}.key(), Scope{Type: typ, Bucket: []byte(b.Name)}.key()}
	if strings.Contains(typ, "/") {
		scopes = scopes[:1] // there is no such type, and its key might be that of another's bucket
	}
	return s.grants(user, permission, scopes...)
}

// MayAnywhere reports whether a user may do something to any bucket of any type.
func (s *Security) MayAnywhere(user, permission string) bool {
	return s.grants(user, permission, Scope{Any: true}.key())
}

// grants reports whether any role of a user has a permission on one of these.
func (s *Security) grants(user, permission string, scopes ...string) bool {
	roles, known := s.roles[user]
	if !known {
		return false
	}
	has := func(role string) bool {
		return slices.ContainsFunc(scopes, func(scope string) bool {
			_, ok := s.granted[grantKey{role, permission, scope}]
			return ok
		})
	}
	return has(RoleAll) || roles.contain(func(i int) bool { return has(s.Roles[i].Name) })
}

// key is the scope as text: types have no slash.
func (s Scope) key() string {
	if s.Any {
		return "any"
	}
	return s.Type + "/" + string(s.Bucket)
}

// String is the scope as commands have it.
func (s Scope) String() string {
	if s.Any || len(s.Bucket) == 0 {
		return cmp.Or(s.Type, "any")
	}
	return s.Type + " " + string(s.Bucket)
}

// administrators reports whether anybody can come in and change who may do what.
func (s *Security) administrators() bool {
	for i := range s.Roles {
		r := &s.Roles[i]
		if !r.Group && s.MayAnywhere(r.Name, PermAdmin) && s.comesIn(r) {
			return true
		}
	}
	return false
}

// comesIn reports whether there is an address from which a user can prove who he is. Which
// source counts changes where a range begins and behind its end, and nowhere else.
func (s *Security) comesIn(r *Role) bool {
	good := func(from netip.Addr) bool {
		m := s.Method(r.Name, from)
		return m != "" && (m != MethodPassword || r.Verifier != "")
	}
	for i := range s.Sources {
		x := &s.Sources[i]
		if (x.User == r.Name || x.User == RoleAll) && (good(x.CIDR.Addr()) || good(lastOf(x.CIDR).Next())) {
			return true
		}
	}
	return false
}

// lastOf is the last address of a range.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b) // it is as long as an address
	return last
}

// setSecurity carries a SetSecurity out.
func (d *draft) setSecurity(c SetSecurity) *ChangeError {
	s := d.Security().clone()
	if err := s.do(c); err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return refused(codeTooMany, "%v", err)
	}
	if s.Enabled && !s.administrators() {
		return refused(codeInvalid, "nobody could change security any more: there must be a user with %s on any, and a source that lets him in", PermAdmin)
	}
	d.security = s
	return nil
}

func (s *Security) clone() *Security {
	return &Security{Enabled: s.Enabled, Roles: slices.Clone(s.Roles), Sources: slices.Clone(s.Sources), Grants: slices.Clone(s.Grants)}
}

// do changes it.
func (s *Security) do(c SetSecurity) *ChangeError {
	switch c.Do {
	case SecurityEnable, SecurityDisable:
		s.Enabled = c.Do == SecurityEnable
		return nil
	case SecurityAddSource, SecurityDelSource:
		return s.changeSources(c)
	case SecurityGrant, SecurityRevoke:
		return s.changeGrants(c)
	}
	if len(c.Names) != 1 {
		return refused(codeInvalid, "a user or a group has one name")
	}
	name := c.Names[0]
	i, found := s.search(name)
	group := c.Do == SecurityAddGroup || c.Do == SecurityAlterGroup || c.Do == SecurityDelGroup
	kind := map[bool]string{false: "user", true: "group"}[group]
	switch c.Do {
	case SecurityAddUser, SecurityAddGroup:
		if err := roleNameError(name); err != nil {
			return err
		}
		if found {
			return refused(codeNameTaken, "there is a user or a group named %s already", quote(name))
		}
		s.Roles = slices.Insert(s.Roles, i, Role{Name: name, Group: group})
		return s.alter(i, c)
	case SecurityAlterUser, SecurityAlterGroup, SecurityDelUser, SecurityDelGroup:
		if !found || s.Roles[i].Group != group {
			return refused(codeUnknownRole, "there is no %s named %s", kind, quote(name))
		}
	default:
		return refused(codeInvalid, "%s is nothing to be done with security", quote(string(c.Do)))
	}
	if c.Do == SecurityDelUser || c.Do == SecurityDelGroup {
		s.forget(i)
		return nil
	}
	return s.alter(i, c)
}

// alter sets what a role is.
func (s *Security) alter(i int, c SetSecurity) *ChangeError {
	r := &s.Roles[i]
	if c.Groups != nil {
		groups := slices.Clone(*c.Groups)
		slices.Sort(groups)
		r.Groups = slices.Compact(groups)
		if len(r.Groups) > maxRoleGroups {
			return refused(codeTooMany, "%s is in more than %d groups", quote(r.Name), maxRoleGroups)
		}
		for _, g := range r.Groups {
			if x, ok := s.Role(g); !ok || !x.Group {
				return refused(codeUnknownRole, "there is no group named %s", quote(g))
			}
		}
	}
	if c.Verifier == "" {
		return nil
	}
	if r.Group || checkVerifier(c.Verifier) != nil {
		return refused(codeInvalid, "%s cannot have this password", quote(r.Name))
	}
	r.Verifier = c.Verifier
	return nil
}

// forget removes a role, and all that names it.
func (s *Security) forget(i int) {
	name := s.Roles[i].Name
	s.Roles = slices.Delete(s.Roles, i, i+1)
	for j := range s.Roles {
		s.Roles[j].Groups = slices.DeleteFunc(slices.Clone(s.Roles[j].Groups), func(g string) bool { return g == name })
	}
	s.Sources = slices.DeleteFunc(s.Sources, func(x Source) bool { return x.User == name })
	s.Grants = slices.DeleteFunc(s.Grants, func(g Grant) bool { return g.Role == name })
}

// changeSources adds a source for each user, in place of one of the same range, or takes
// it away.
func (s *Security) changeSources(c SetSecurity) *ChangeError {
	if !c.CIDR.IsValid() || c.CIDR.Addr().Is4In6() || c.CIDR != c.CIDR.Masked() {
		return refused(codeInvalid, "a source needs a range of addresses, such as 10.0.0.0/8")
	}
	methods := []string{MethodTrust, MethodPassword, MethodCertificate}
	if c.Do == SecurityAddSource && !slices.Contains(methods, c.Method) {
		return refused(codeInvalid, "%s is no way to prove who one is; there are %s", quote(c.Method), strings.Join(methods, ", "))
	}
	if len(c.Names) == 0 {
		return refused(codeInvalid, "a source is of one user at least, or of all")
	}
	for _, name := range c.Names {
		if _, ok := s.User(name); !ok && name != RoleAll {
			return refused(codeUnknownRole, "there is no user named %s", quote(name))
		}
		before := len(s.Sources)
		s.Sources = slices.DeleteFunc(s.Sources, func(x Source) bool { return x.User == name && x.CIDR == c.CIDR })
		if c.Do == SecurityAddSource {
			s.Sources = append(s.Sources, Source{User: name, CIDR: c.CIDR, Method: c.Method})
		} else if len(s.Sources) == before {
			return refused(codeUnknownRole, "%s has no source %v", quote(name), c.CIDR)
		}
	}
	slices.SortFunc(s.Sources, compareSources)
	return nil
}

// compareSources has the narrower first, and one of a user before that of all.
func compareSources(a, b Source) int {
	all := func(x Source) int {
		if x.User == RoleAll {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(b.CIDR.Bits(), a.CIDR.Bits()), cmp.Compare(all(a), all(b)), a.CIDR.Addr().Compare(b.CIDR.Addr()), strings.Compare(a.User, b.User))
}

// changeGrants lets roles do something, or not any more.
func (s *Security) changeGrants(c SetSecurity) *ChangeError {
	if len(c.Names) == 0 || len(c.Permissions) == 0 {
		return refused(codeInvalid, "a grant has a permission, and somebody who gets it")
	}
	if err := c.Scope.check(); err != nil {
		return err
	}
	for _, name := range c.Names {
		if _, ok := s.Role(name); !ok && name != RoleAll {
			return refused(codeUnknownRole, "there is no user and no group named %s", quote(name))
		}
		for _, p := range c.Permissions {
			if !slices.Contains(Permissions, p) {
				return refused(codeInvalid, "%s is no permission; there are %s", quote(p), strings.Join(Permissions, ", "))
			}
			if admin := p == PermAdmin || p == PermReadAdmin; admin && !c.Scope.Any {
				return refused(codeInvalid, "%s is a permission on any alone", p)
			}
			g := Grant{Role: name, Permission: p, Scope: c.Scope}
			i, found := slices.BinarySearchFunc(s.Grants, g, compareGrants)
			switch {
			case c.Do == SecurityGrant && !found:
				s.Grants = slices.Insert(s.Grants, i, g)
			case c.Do == SecurityRevoke && found:
				s.Grants = slices.Delete(s.Grants, i, i+1)
			}
		}
	}
	return nil
}

func (s Scope) check() *ChangeError {
	switch {
	case s.Any && (s.Type != "" || len(s.Bucket) > 0):
		return refused(codeInvalid, "any is all types and buckets")
	case s.Any:
		return nil
	case len(s.Bucket) > kv.MaxBucket:
		return refused(codeInvalid, "the name of the bucket is too long")
	}
	return typeNameError(s.Type)
}

func compareGrants(a, b Grant) int {
	return cmp.Or(strings.Compare(a.Role, b.Role), strings.Compare(a.Scope.key(), b.Scope.key()), strings.Compare(a.Permission, b.Permission))
}

// roleNameError says what is wrong with the name of a user or a group. A colon would end
// it in HTTP's header.
func roleNameError(name string) *ChangeError {
	reserved := []string{RoleAll, "on", "to", "from", "any"}
	bad := name == "" || len(name) > maxRoleName || !utf8.ValidString(name) || slices.Contains(reserved, name) ||
		strings.ContainsFunc(name, func(r rune) bool {
			return unicode.IsControl(r) || unicode.IsSpace(r) || r == ':' || r == '/' || r == ','
		})
	if bad {
		return refused(codeInvalid, "%s is no name of a user or a group: it must be text of 1 to %d bytes without spaces, colons, commas and slashes, and none of %s",
			quote(name), maxRoleName, strings.Join(reserved, ", "))
	}
	return nil
}

// settle makes what requests go by, and looks at the limits.
func (s *Security) settle() error {
	if len(s.Roles) > maxRoles || len(s.Sources) > maxSources || len(s.Grants) > maxGrants {
		return fmt.Errorf("there are more than %d users and groups, %d sources or %d grants", maxRoles, maxSources, maxGrants)
	}
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("security: %w", err)
	}
	if len(text) > maxSecurityBytes {
		return fmt.Errorf("users, groups, sources and grants would take more than %d bytes", maxSecurityBytes)
	}
	s.granted = make(map[grantKey]struct{}, len(s.Grants))
	for _, g := range s.Grants {
		s.granted[grantKey{g.Role, g.Permission, g.Scope.key()}] = struct{}{}
	}
	s.roles = make(map[string]roleSet, len(s.Roles))
	for i, set := range s.nested() {
		if r := &s.Roles[i]; !r.Group {
			s.roles[r.Name] = set
		}
	}
	return nil
}

// checkSecurity looks for what no state can be.
func (s *State) checkSecurity() error {
	x := s.security
	if x == nil {
		return nil
	}
	for i, r := range x.Roles {
		bad := roleNameError(r.Name) != nil || i > 0 && x.Roles[i-1].Name >= r.Name || !slices.IsSorted(r.Groups) || len(r.Groups) > maxRoleGroups || r.Verifier != "" && (r.Group || checkVerifier(r.Verifier) != nil)
		for _, g := range r.Groups {
			if y, ok := x.Role(g); !ok || !y.Group {
				bad = true
			}
		}
		if bad {
			return fmt.Errorf("user or group %s", quote(r.Name))
		}
	}
	for i, y := range x.Sources {
		if i > 0 && compareSources(x.Sources[i-1], y) >= 0 {
			return errors.New("sources are not in order")
		}
		one := &Security{Roles: x.Roles}
		if one.changeSources(SetSecurity{Do: SecurityAddSource, Names: []string{y.User}, CIDR: y.CIDR, Method: y.Method}) != nil {
			return fmt.Errorf("source of %s", quote(y.User))
		}
	}
	for i, g := range x.Grants {
		if i > 0 && compareGrants(x.Grants[i-1], g) >= 0 {
			return errors.New("grants are not in order")
		}
		one := &Security{Roles: x.Roles}
		if one.changeGrants(SetSecurity{Do: SecurityGrant, Names: []string{g.Role}, Permissions: []string{g.Permission}, Scope: g.Scope}) != nil {
			return fmt.Errorf("grant to %s", quote(g.Role))
		}
	}
	return x.settle()
}
