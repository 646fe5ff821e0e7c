package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/kv"
)

// Member is one of the list bootstrap.
type Member struct{ Name, Address string }

// ParseMember reads NAME=HOST:PORT.
func ParseMember(s string) (Member, error) {
	name, address, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return Member{}, errors.New("a member must be NAME=HOST:PORT")
	}
	if err := membership.CheckName(name); err != nil {
		return Member{}, err
	}
	return Member{name, address}, CheckHostPort(address)
}

// Members are those of the list bootstrap.
func (s *Server) Members() []Member {
	var all []Member
	for _, text := range s.Bootstrap {
		if m, err := ParseMember(text); err == nil { // no other is in the list
			all = append(all, m)
		}
	}
	return all
}

// BucketLimit is the limit of one bucket, a second; 0: none.
type BucketLimit struct {
	Bucket   kv.Bucket
	Requests int
	Bytes    Bytes
}

// ParseBucketLimit reads [TYPE/]BUCKET=N:BYTES.
func ParseBucketLimit(s string) (BucketLimit, error) {
	var l BucketLimit
	name, limit, ok := strings.Cut(s, "=")
	requests, size, both := strings.Cut(limit, ":")
	if !ok || !both {
		return l, errors.New("a limit must be [TYPE/]BUCKET=REQUESTS:BYTES, such as logs=100:1MiB")
	}
	typ, bucket, typed := strings.Cut(name, "/")
	if !typed {
		typ, bucket = "", name
	}
	var err1, err2 error
	l.Bucket.Type, err1 = url.PathUnescape(typ)
	l.Bucket.Name, err2 = url.PathUnescape(bucket)
	if err := errors.Join(err1, err2); err != nil {
		return l, errors.New("the bucket has a percent sign that begins no escape")
	}
	if l.Bucket.Type == "default" {
		l.Bucket.Type = ""
	}
	if err := l.Bucket.Validate(); err != nil {
		return l, err
	}
	var err error
	l.Requests, l.Bytes, err = parseRates(requests, size)
	return l, err
}

// parseRates reads the two numbers of a limit.
func parseRates(requests, size string) (int, Bytes, error) {
	n, err := strconv.Atoi(requests)
	if err != nil || n < 0 {
		return 0, 0, fmt.Errorf("%q is not a number of requests", clip(requests))
	}
	bytes, err := ParseBytes(size)
	return n, bytes, err
}

// UserLimit is the limit of one user, a second; 0: none.
type UserLimit struct {
	User     string
	Requests int
	Bytes    Bytes
}

// ParseUserLimit reads USER=N:BYTES.
func ParseUserLimit(s string) (UserLimit, error) {
	var l UserLimit
	name, limit, ok := strings.Cut(s, "=")
	requests, size, both := strings.Cut(limit, ":")
	if !ok || !both || name == "" {
		return l, errors.New("a limit must be USER=REQUESTS:BYTES, such as web1=1000:10MiB")
	}
	var err error
	if l.User, err = url.PathUnescape(name); err != nil {
		return l, errors.New("the user has a percent sign that begins no escape")
	}
	l.Requests, l.Bytes, err = parseRates(requests, size)
	return l, err
}

// LimitsOfUsers are those of the list user-limits.
func (s *Server) LimitsOfUsers() []UserLimit {
	var all []UserLimit
	for _, text := range s.UserLimits {
		if l, err := ParseUserLimit(text); err == nil { // no other is in the list
			all = append(all, l)
		}
	}
	return all
}

// LimitsOfBuckets are those of the list bucket-limits.
func (s *Server) LimitsOfBuckets() []BucketLimit {
	var all []BucketLimit
	for _, text := range s.BucketLimits {
		if l, err := ParseBucketLimit(text); err == nil { // no other is in the list
			all = append(all, l)
		}
	}
	return all
}

// check looks for values that cannot be together.
func (c *Config) check() Problems {
	var ps Problems
	bad := func(format string, args ...any) { ps = append(ps, Problem{Text: fmt.Sprintf(format, args...)}) }
	for _, must := range []struct{ name, value string }{{"dir", c.Dir}, {"http", c.HTTP}, {"pb", c.PB}} {
		if must.value == "" {
			bad("%s is empty; it must have a value", c.place(must.name))
		}
	}
	joins := "join"
	if len(c.AutoJoin) > 0 {
		joins = "auto-join"
	}
	switch join := len(c.Join) + len(c.AutoJoin); {
	case join == 0:
	case len(c.Join) > 0 && len(c.AutoJoin) > 0:
		bad("%s and %s contradict each other: the joining is committed by you, or at once", c.place("join"), c.place("auto-join"))
	case len(c.Bootstrap) > 0:
		bad("%s and %s contradict each other: a node begins a cluster, or joins one", c.place("bootstrap"), c.place(joins))
	case c.Listen == "":
		bad("%s needs %s: the other nodes have to reach this one", c.place(joins), c.place("listen"))
	}
	c.checkAddresses(bad)
	c.checkTLS(bad)
	seen := map[kv.Bucket]bool{}
	for _, l := range c.LimitsOfBuckets() {
		if seen[l.Bucket] {
			bad("%s has two limits for the bucket %q", c.place("bucket-limits"), clip(l.Bucket.Name))
		}
		seen[l.Bucket] = true
	}
	users := map[string]bool{}
	for _, l := range c.LimitsOfUsers() {
		if users[l.User] {
			bad("%s has two limits for the user %q", c.place("user-limits"), clip(l.User))
		}
		users[l.User] = true
	}
	return ps
}

// checkAddresses looks for places that two want for themselves.
func (c *Config) checkAddresses(bad func(string, ...any)) {
	if len(c.Bootstrap) > 0 {
		if _, err := membership.ParseMembers(strings.Join(c.Bootstrap, ",")); err != nil {
			bad("%s: %v", c.place("bootstrap"), err)
		}
	}
	listen := "listen"
	if c.Listen == "" {
		listen = "bootstrap"
	}
	doors := []struct{ name, address string }{{"http", c.HTTP}, {"pb", c.PB}, {listen, c.ListenAt()}}
	for i, a := range doors {
		for _, b := range doors[i+1:] {
			switch {
			case !samePort(a.address, b.address):
			case a.address == b.address:
				bad("%s and %s are both %s", c.place(a.name), c.place(b.name), a.address)
			default:
				bad("%s is %s and %s is %s, which is the same port", c.place(a.name), a.address, c.place(b.name), b.address)
			}
		}
	}
}

// samePort reports whether one of two listeners would find the other in its place.
func samePort(a, b string) bool {
	hostA, portA, err := net.SplitHostPort(a)
	hostB, portB, err2 := net.SplitHostPort(b)
	if err != nil || err2 != nil || portA != portB || portA == "0" { // of 0 the system makes another one
		return false
	}
	everywhere := func(host, other string) bool {
		return host == "" || host == "::" || host == "0.0.0.0" && !strings.Contains(other, ":")
	}
	return hostA == hostB || everywhere(hostA, hostB) || everywhere(hostB, hostA)
}

// checkTLS looks for certificates without keys.
func (c *Config) checkTLS(bad func(string, ...any)) {
	if given := []bool{c.TLSCert != "", c.TLSKey != "", c.TLSCA != ""}; slices.Contains(given, true) && slices.Contains(given, false) {
		bad("%s, %s and %s are needed together", c.place("tls-cert"), c.place("tls-key"), c.place("tls-ca"))
	}
	if c.TLSDir != "" && c.TLSCert != "" {
		bad("%s and %s contradict each other: the directory has the certificate", c.place("tls-dir"), c.place("tls-cert"))
	}
	if (c.ClientTLSCert == "") != (c.ClientTLSKey == "") {
		bad("%s and %s are needed together", c.place("client-tls-cert"), c.place("client-tls-key"))
	}
	if c.ClientTLSCA != "" && c.ClientTLSCert == "" && c.TLSDir == "" {
		bad("%s needs %s", c.place("client-tls-ca"), c.place("client-tls-cert"))
	}
}

// place is how an option is to be called where it was given, or where it could be: as
// a flag.
func (c *Config) place(name string) string {
	from, given := c.from[name]
	if !given {
		return "--" + name
	}
	return from.where
}

// The parts of the memory limit that options take by default.
const (
	cacheShare   = 4 // one part in so many is the cache
	requestShare = 8 // and the memory for requests, of HTTP and of Protocol Buffers each

	defaultCache         = 256 << 20
	defaultRequestMemory = 1 << 30
	leastShare           = 1 << 20
)

// CacheSize is the size of the cache in a process with this limit; 0: it has none.
func (s *Server) CacheSize(limit Bytes) Bytes {
	switch {
	case s.Cache > 0:
		return s.Cache
	case limit > 0:
		return max(leastShare, limit/cacheShare)
	}
	return defaultCache
}

// RequestMemorySize is the memory for the bodies of requests in such a process.
func (s *Server) RequestMemorySize(limit Bytes) Bytes {
	switch {
	case s.RequestMemory > 0:
		return s.RequestMemory
	case limit > 0:
		return min(defaultRequestMemory, max(leastShare, limit/requestShare))
	}
	return defaultRequestMemory
}
