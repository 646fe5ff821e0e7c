package membership

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tanodb/tanodb/kv"
)

// The limits of a list of members.
const (
	MaxMembers = 1024
	MaxName    = 64  // characters in the name of a member
	MaxHost    = 253 // characters in the host of an address, as in DNS
)

// Member is a node of the cluster.
type Member struct {
	Name    string // 1 to MaxName of the characters A-Z a-z 0-9 . _ -
	Address string // HOST:PORT where the other nodes reach it; empty: no network leads to it
}

// ParseMembers reads a list of members as an operator writes it, in any order:
//
//	n1=10.0.0.1:8099,n2=10.0.0.2:8099,n3=[2001:db8::3]:8099
//
// Spaces around an entry do not matter. The error is a *kv.InvalidError that
// names the bad entry.
func ParseMembers(s string) ([]Member, error) {
	if strings.TrimSpace(s) == "" {
		return nil, &kv.InvalidError{What: "list of members", Problem: "is empty; it must be NAME=HOST:PORT,…"}
	}
	var members []Member
	for i, entry := range strings.Split(s, ",") {
		name, address, ok := strings.Cut(strings.TrimSpace(entry), "=")
		if !ok || address == "" {
			return nil, &kv.InvalidError{What: fmt.Sprintf("member %d, %s,", i+1, quote(entry)), Problem: "is not NAME=HOST:PORT"}
		}
		members = append(members, Member{Name: name, Address: address})
	}
	if err := validate(members); err != nil {
		return nil, err
	}
	return members, nil
}

// validate checks each member, and the list.
func validate(members []Member) error {
	if len(members) == 0 {
		return &kv.InvalidError{What: "list of members", Problem: "is empty"}
	}
	if len(members) > MaxMembers {
		return &kv.InvalidError{What: "list of members", Problem: fmt.Sprintf("has %d entries; the limit is %d", len(members), MaxMembers)}
	}
	names := make(map[string]bool, len(members))
	holder := make(map[string]string, len(members)) // by address
	for i, m := range members {
		what := fmt.Sprintf("member %d, %s,", i+1, quote(m.Name))
		if problem := nameProblem(m.Name); problem != "" {
			return &kv.InvalidError{What: what, Problem: problem}
		}
		if names[m.Name] {
			return &kv.InvalidError{What: what, Problem: "is named twice"}
		}
		names[m.Name] = true
		if m.Address == "" {
			continue
		}
		if problem := addressProblem(m.Address); problem != "" {
			return &kv.InvalidError{What: what, Problem: "has the address " + quote(m.Address) + ", " + problem}
		}
		if other, ok := holder[m.Address]; ok {
			return &kv.InvalidError{What: what, Problem: "has the address " + quote(m.Address) + ", which is that of " + other}
		}
		holder[m.Address] = m.Name
	}
	return nil
}

// nameProblem says what is wrong with a member's name; empty: nothing.
func nameProblem(name string) string {
	if name == "" {
		return "has no name"
	}
	if len(name) > MaxName {
		return fmt.Sprintf("has a name of %d characters; the limit is %d", len(name), MaxName)
	}
	for _, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && !(c >= '0' && c <= '9') && c != '.' && c != '_' && c != '-' {
			return "has a name with other characters than A-Z a-z 0-9 . _ -"
		}
	}
	return ""
}

// addressProblem says what is wrong with an address; empty: nothing.
func addressProblem(address string) string {
	i := strings.LastIndexByte(address, ':')
	if i < 0 {
		return "which has no port"
	}
	host, port := address[:i], address[i+1:]
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "whose port is not a number from 1 to 65535"
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	} else if strings.Contains(host, ":") {
		return "whose host must stand in [] since it contains a colon"
	}
	if host == "" {
		return "which has no host"
	}
	if len(host) > MaxHost {
		return fmt.Sprintf("whose host has %d characters; the limit is %d", len(host), MaxHost)
	}
	for _, c := range []byte(host) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("[]/@,=\"", c) >= 0 {
			return "whose host is no name or IP address"
		}
	}
	return ""
}

// quote quotes what came from outside, and cuts it short.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}
