package tanodb

import (
	"cmp"
	"context"
	"crypto/hmac"
	crand "crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/kv"
)

// Permission is something that a user may do. Those with Riak's names mean what they mean
// in Riak.
type Permission string

// The permissions.
const (
	PermGet         Permission = membership.PermGet
	PermPut         Permission = membership.PermPut
	PermDelete      Permission = membership.PermDelete
	PermIndex       Permission = membership.PermIndex
	PermListKeys    Permission = membership.PermListKeys
	PermListBuckets Permission = membership.PermListBuckets
	PermMapReduce   Permission = membership.PermMapReduce
	PermPreflist    Permission = membership.PermPreflist
	PermGetBucket   Permission = membership.PermGetBucket
	PermSetBucket   Permission = membership.PermSetBucket
	PermGetType     Permission = membership.PermGetType
	PermSetType     Permission = membership.PermSetType
	PermReadAdmin   Permission = membership.PermReadAdmin // look at nodes, the cluster and metrics
	PermAdmin       Permission = membership.PermAdmin     // change them, and who may do what
)

// Permissions are all of them.
func Permissions() []Permission {
	all := make([]Permission, len(membership.Permissions))
	for i, p := range membership.Permissions {
		all[i] = Permission(p)
	}
	return all
}

var (
	// ErrLogin says that somebody is not who he says he is. Why is not said: it would help
	// to guess.
	ErrLogin = errors.New("authentication failed")

	// ErrPermission says that a user may not do what he has asked for.
	ErrPermission = errors.New("permission denied")
)

// Role is a user or a group.
type Role struct {
	Name     string   `json:"name"`
	Groups   []string `json:"groups"`
	Password bool     `json:"password"` // it has one
}

// Source is how a user, or all, prove who they are, from a range of addresses.
type Source struct {
	User   string       `json:"user"`
	CIDR   netip.Prefix `json:"cidr"`
	Method string       `json:"method"` // trust, password or certificate
}

// Grant lets a user or a group, or all, do something.
type Grant struct {
	Role       string     `json:"role"`
	Permission Permission `json:"permission"`
	Any        bool       `json:"any,omitempty"`    // on everything
	Type       string     `json:"type,omitempty"`   // on this bucket type
	Bucket     []byte     `json:"bucket,omitempty"` // on this bucket of it alone; in JSON base64
}

// SecurityState is who may do what.
type SecurityState struct {
	Enabled bool     `json:"enabled"`
	Users   []Role   `json:"users"`
	Groups  []Role   `json:"groups"`
	Sources []Source `json:"sources"` // the first that matches counts
	Grants  []Grant  `json:"grants"`
}

// SecurityChange changes who may do what.
type SecurityChange struct {
	// Do is one of enable, disable, add-user, alter-user, del-user, add-group, alter-group,
	// del-group, add-source, del-source, grant and revoke.
	Do string `json:"do"`

	Names       []string     `json:"names,omitempty"`       // a user or a group; of sources and grants several, or "all"
	Groups      *[]string    `json:"groups,omitempty"`      // that it is in; nil: as it is
	Password    string       `json:"password,omitempty"`    // of a user; empty: as it is
	CIDR        netip.Prefix `json:"cidr,omitzero"`         // of a source
	Method      string       `json:"method,omitempty"`      // of a source: trust, password or certificate
	Permissions []Permission `json:"permissions,omitempty"` // of a grant
	Any         bool         `json:"any,omitempty"`         // a grant on everything,
	Type        string       `json:"type,omitempty"`        // or on a bucket type,
	Bucket      []byte       `json:"bucket,omitempty"`      // or on a bucket of it
}

// maxPasswordBytes bounds what is hashed.
const maxPasswordBytes = 1024

// Security is who may do what.
func (n *Node) Security() SecurityState {
	s := n.state().Security()
	out := SecurityState{Enabled: s.Enabled, Users: []Role{}, Groups: []Role{}, Sources: []Source{}, Grants: []Grant{}}
	for _, r := range s.Roles {
		role := Role{Name: r.Name, Groups: append([]string{}, r.Groups...), Password: r.Verifier != ""}
		if r.Group {
			out.Groups = append(out.Groups, role)
			continue
		}
		out.Users = append(out.Users, role)
	}
	for _, x := range s.Sources {
		out.Sources = append(out.Sources, Source(x))
	}
	for _, g := range s.Grants {
		out.Grants = append(out.Grants, Grant{Role: g.Role, Permission: Permission(g.Permission), Any: g.Scope.Any, Type: g.Scope.Type, Bucket: g.Scope.Bucket})
	}
	return out
}

// ChangeSecurity changes who may do what, for the whole cluster. It returns when all
// members that are up go by it, or after some seconds.
func (n *Node) ChangeSecurity(ctx context.Context, c SecurityChange) error {
	if err := n.allSpeakSecurity(); err != nil {
		return err
	}
	set := membership.SetSecurity{
		Do: membership.SecurityChange(c.Do), Names: c.Names, Groups: c.Groups, CIDR: c.CIDR, Method: c.Method,
		Scope: membership.Scope{Any: c.Any, Type: c.Type, Bucket: c.Bucket},
	}
	for _, p := range c.Permissions {
		set.Permissions = append(set.Permissions, string(p))
	}
	if len(c.Password) > maxPasswordBytes {
		return &ClusterError{Code: "invalid", Text: fmt.Sprintf("a password has at most %d bytes", maxPasswordBytes)}
	}
	if c.Password != "" {
		salt := make([]byte, membership.PasswordSalt)
		if _, err := crand.Read(salt); err != nil {
			return fmt.Errorf("tanodb: no randomness: %w", err)
		}
		var err error
		if set.Verifier, err = membership.MakeVerifier(c.Password, salt, n.logins.iterations); err != nil {
			return &ClusterError{Code: "invalid", Text: err.Error()}
		}
	}
	return n.changeProps(ctx, set)
}

// securityProtocol is the first protocol between nodes that knows of users.
const securityProtocol = 6

// leastProtocol is the lowest that a node must speak to read the topology as it is: one that
// does not know of users is no member of a cluster that has some.
func (n *Node) leastProtocol() int {
	if n.state().Security().Known() {
		return securityProtocol
	}
	return 0
}

// allSpeakSecurity refuses a change that a member of an older version could not read: it
// would stop there. Once one was made, those are not talked to: see leastProtocol.
func (n *Node) allSpeakSecurity() error {
	s := n.state()
	if s.Security().Known() || n.network == nil {
		return nil
	}
	speaks := map[string]int{}
	for _, p := range n.network.Stats().Peers {
		speaks[p.Node] = p.Protocol
	}
	var old []string
	for _, m := range s.Members() {
		if m.Name != n.self && m.Status != membership.StatusLeft && speaks[m.Name] < securityProtocol {
			old = append(old, m.Name)
		}
	}
	if len(old) > 0 {
		return &ClusterError{Code: "old_members", Text: "the first change of security needs all members, up and of a version that knows it; these have not been heard, or do not: " + strings.Join(old, ", ")}
	}
	return nil
}

// Login is who somebody says he is, and how he proves it.
type Login struct {
	User        string
	Password    string
	Certificate string     // the common name of a certificate that was verified; empty: there is none
	From        netip.Addr // where he comes from
}

// User is somebody who has proven who he is. It is for one goroutine at a time.
type User struct {
	node   *Node
	login  Login // without the password
	method string
	proof  string // the verifier that the password was checked against

	seen  *membership.Security // as of which
	still bool                 // he was let in
}

// Secured reports whether clients must say who they are.
func (n *Node) Secured() bool { return n.state().Security().Enabled }

// Login lets somebody in, or not: then the error is ErrLogin whatever the reason is, and it
// takes as long, but from where no password lets anybody in. It is kv.ErrOverload if too many
// come at once.
func (n *Node) Login(ctx context.Context, l Login) (*User, error) {
	if l.User == "" {
		return nil, ErrLogin // he says nothing, and there is nothing to find out
	}
	s := n.state().Security()
	role, known := s.User(l.User)
	method := s.Method(l.User, l.From)
	if !known {
		method = ""
	}
	u := &User{node: n, login: l, method: method, seen: s, still: true}
	u.login.Password = ""
	switch method {
	case membership.MethodTrust:
		return u, nil
	case membership.MethodCertificate:
		if l.Certificate == l.User {
			return u, nil
		}
	case membership.MethodPassword:
		u.proof = role.Verifier
	}
	if !s.TakesPasswords(l.From) {
		return nil, ErrLogin // at once: it tells where he comes from, which he knows
	}
	right, err := n.logins.check(ctx, l, u.proof)
	if err != nil {
		return nil, err
	}
	if !right {
		return nil, ErrLogin
	}
	return u, nil
}

type userKey struct{}

// WithUser says who asks for what is done with the context: a user that Login has let in.
// A node serves all alike; what stands before it goes by that.
func WithUser(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, userKey{}, name)
}

// UserOf is who asks; empty: nobody who is known.
func UserOf(ctx context.Context) string {
	name, _ := ctx.Value(userKey{}).(string)
	return name
}

// Name is the user's name.
func (u *User) Name() string { return u.login.User }

// May is nil if the user may do this to the bucket; one without a name is all of its type.
// The error is ErrPermission, or ErrLogin if he would not be let in any more.
func (u *User) May(p Permission, b kv.Bucket) error {
	s, err := u.now()
	if err != nil {
		return err
	}
	if s.May(u.login.User, string(p), b) {
		return nil
	}
	return fmt.Errorf("%w: User '%s' does not have '%s' on %s", ErrPermission, u.login.User, p, strings.TrimSuffix(cmp.Or(b.Type, "default")+"/"+b.Name, "/"))
}

// MayAnywhere is May of everything.
func (u *User) MayAnywhere(p Permission) error {
	s, err := u.now()
	if err != nil {
		return err
	}
	if s.MayAnywhere(u.login.User, string(p)) {
		return nil
	}
	return fmt.Errorf("%w: User '%s' does not have '%s' on any", ErrPermission, u.login.User, p)
}

// Valid is nil as long as the user would be let in as he was.
func (u *User) Valid() error {
	_, err := u.now()
	return err
}

// now is who may do what, if the user would still be let in as he was.
func (u *User) now() (*membership.Security, error) {
	s := u.node.state().Security()
	if s != u.seen {
		role, known := s.User(u.login.User)
		u.seen = s
		u.still = u.still && known && s.Method(u.login.User, u.login.From) == u.method && (u.proof == "" || role.Verifier == u.proof)
	}
	if !u.still {
		return nil, ErrLogin
	}
	return s, nil
}

// The limits of logins.
const (
	loginMemory = 5 * time.Minute // a password that was right, and is used, is not hashed again before so long after
	maxLogins   = 10_000          // passwords that are remembered
	maxAtOnce   = 4               // passwords from one address that are hashed, or wait for it
	addressBits = 64              // of an IPv6 address: who has one has all that begin with them
)

// logins checks passwords. To hash one costs a good part of a second, so that few can be
// tried; those that were right are remembered, by a sum that nobody outside can make.
type logins struct {
	iterations int           // how often a new password is hashed
	hashing    chan struct{} // room for those that are hashed at once
	nobody     string        // a verifier, for those who have none

	mu    sync.Mutex
	key   [sha256.Size]byte
	good  map[[sha256.Size]byte]goodLogin
	tried map[attempt]*trial
	from  map[netip.Prefix]int // trials by where they come from. Invariant: none is above maxAtOnce
}

// goodLogin is a password that was right.
type goodLogin struct {
	verifier string // against this one
	until    time.Time
}

// attempt is a password that is tried from somewhere.
type attempt struct {
	id       [sha256.Size]byte
	verifier string // against this one
	from     netip.Prefix
}

// trial is an attempt that is hashed, or waits for it. Whoever comes with the same one from
// the same place meanwhile waits for its end, and takes no room.
type trial struct {
	done  chan struct{} // closed at the end; what follows is set then
	right bool
	err   error
}

// newLogins has new passwords hashed so often, and those of nobody.
func newLogins(iterations int) *logins {
	l := &logins{iterations: iterations, hashing: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), good: map[[sha256.Size]byte]goodLogin{}, tried: map[attempt]*trial{}, from: map[netip.Prefix]int{}}
	salt := freshActor()
	if _, err := crand.Read(l.key[:]); err != nil {
		panic("tanodb: no randomness: " + err.Error()) // crypto/rand never fails on the systems we run on
	}
	l.nobody = membership.VerifierOfNobody(append(salt[:], l.key[:16]...), iterations)
	return l
}

// check reports whether the password is that of the verifier; of an empty one none is.
func (l *logins) check(ctx context.Context, who Login, verifier string) (bool, error) {
	password := who.Password
	if len(password) > maxPasswordBytes {
		password = "" // no user has it, and it is as dear to find out
	}
	a := attempt{l.id(who.User, password), verifier, placeOf(who.From)}
	for {
		if verifier != "" && l.remembers(a.id, verifier) {
			return true, nil
		}
		t, first, err := l.try(a)
		if err != nil {
			return false, err
		}
		if first {
			t.right, t.err = l.hash(ctx, a, password)
			l.tell(a, t)
			return t.right, t.err
		}
		select {
		case <-t.done:
			if t.err == nil {
				return t.right, nil
			}
			// Who came first has lost patience: this one may have some left.
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return false, errManyLogins
		}
	}
}

var errManyLogins = fmt.Errorf("%w: too many log in at once", kv.ErrOverload)

// placeOf is what belongs to who has an address.
func placeOf(from netip.Addr) netip.Prefix {
	from = from.Unmap().WithZone("")
	p, err := from.Prefix(min(from.BitLen(), addressBits))
	if err != nil {
		return netip.Prefix{} // it is no address
	}
	return p
}

// try finds the trial of an attempt, or begins it if there is room for one more from there.
func (l *logins) try(a attempt) (t *trial, first bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t, ok := l.tried[a]; ok {
		return t, false, nil
	}
	if l.from[a.from] >= maxAtOnce {
		return nil, false, errManyLogins
	}
	l.from[a.from]++
	t = &trial{done: make(chan struct{})}
	l.tried[a] = t
	return t, true, nil
}

// tell ends a trial.
func (l *logins) tell(a attempt, t *trial) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.tried, a)
	if l.from[a.from]--; l.from[a.from] == 0 {
		delete(l.from, a.from)
	}
	close(t.done)
}

// hash finds out whether a password is right, when it is its turn.
func (l *logins) hash(ctx context.Context, a attempt, password string) (bool, error) {
	select {
	case l.hashing <- struct{}{}:
	case <-ctx.Done():
		return false, errManyLogins
	}
	defer func() { <-l.hashing }()
	if a.verifier != "" && l.remembers(a.id, a.verifier) {
		return true, nil // it came from elsewhere too, and was hashed meanwhile
	}
	right := membership.Verify(cmp.Or(a.verifier, l.nobody), password)
	if !right || a.verifier == "" || password == "" {
		return false, nil
	}
	l.remember(a.id, a.verifier)
	return true, nil
}

// id is what a name and a password are remembered by.
func (l *logins) id(user, password string) (id [sha256.Size]byte) {
	h := hmac.New(sha256.New, l.key[:])
	h.Write([]byte(user + "\x00" + password)) // a name has no zero byte
	h.Sum(id[:0])
	return id
}

// remembers reports whether a password was right not long ago, and remembers it for longer.
func (l *logins) remembers(id [sha256.Size]byte, verifier string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	g, ok := l.good[id]
	now := time.Now()
	if !ok || g.verifier != verifier || !now.Before(g.until) {
		return false
	}
	g.until = now.Add(loginMemory)
	l.good[id] = g
	return true
}

func (l *logins) remember(id [sha256.Size]byte, verifier string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.good) >= maxLogins {
		clear(l.good)
	}
	l.good[id] = goodLogin{verifier, time.Now().Add(loginMemory)}
}
