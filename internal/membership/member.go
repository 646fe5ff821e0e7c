package membership

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

// The limits of a list of members.
const (
	MaxMembers  = 1024
	MaxName     = 64  // characters in the name of a member, or of a zone
	MaxHost     = 253 // characters in the host of an address, as in DNS
	MaxReplicas = 64  // N at most
)

// Status says how a member stands in the cluster:
//
//	joining ──commit──▶ valid ──commit──▶ leaving ──owns nothing──▶ exiting ──▶ left
//	                      │ ▲
//	                 down ▼ │ is back
//	                     down
//
// Leaving and exiting members may be down as well; they are again what they
// were when they are back. A dead member that is removed or replaced by force
// has left at once.
type Status string

// The statuses.
const (
	StatusJoining Status = "joining" // staged to join: it follows the topology, and owns nothing
	StatusValid   Status = "valid"   // may own partitions
	StatusLeaving Status = "leaving" // gives its partitions to others
	StatusExiting Status = "exiting" // owns nothing any more, and hands over what it still holds
	StatusDown    Status = "down"    // an operator has said that it is not to be waited for
	StatusLeft    Status = "left"    // is no member any more, and its id never will be again
)

// DefaultWeight is the weight of a member that has none of its own.
const DefaultWeight = 100

// Member is a node of the cluster.
type Member struct {
	Name    string   // 1 to MaxName of the characters A-Z a-z 0-9 . _ -
	Address string   // HOST:PORT where the other nodes reach it; empty: no network leads to it
	Zone    string   // nodes of one zone fail together; empty is a zone as well
	ID      [16]byte // of the node's directory; zero: not known yet
	Weight  int      // its share of the ring compared with others; 0 means DefaultWeight
	Raft    uint64   // its id in the topology log, never 0
	Status  Status
}

// RaftID is the id in the topology log of the member of that name and node id.
// The first members of a cluster have the one for the zero node id, since
// theirs are not known to each other from the start.
func RaftID(cluster [16]byte, name string, id [16]byte) uint64 {
	b := append([]byte("tanodb raft"), cluster[:]...)
	b = append(b, id[:]...)
	hash := sha256.Sum256(append(b, name...))
	return max(1, binary.BigEndian.Uint64(hash[:]))
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
		if problem := settingProblem(m.Zone, m.Weight); problem != "" {
			return &kv.InvalidError{What: what, Problem: "has " + problem}
		}
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

// CheckName refuses what no member, and no zone, can be called.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName || !plain(name) {
		return fmt.Errorf("a name has 1 to %d of the characters A-Z a-z 0-9 . _ -", MaxName)
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
	if !plain(name) {
		return "has a name with other characters than A-Z a-z 0-9 . _ -"
	}
	return ""
}

// plain reports whether s has only the characters that names may have.
func plain(s string) bool {
	for _, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && !(c >= '0' && c <= '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// settingProblem says what is wrong with a member's zone or weight; empty:
// nothing.
func settingProblem(zone string, weight int) string {
	switch {
	case len(zone) > MaxName:
		return fmt.Sprintf("a zone of %d characters; the limit is %d", len(zone), MaxName)
	case !plain(zone):
		return "a zone with other characters than A-Z a-z 0-9 . _ -"
	case weight < 0 || weight > ring.MaxWeight:
		return fmt.Sprintf("the weight %d; it must be from 1 to %d", weight, ring.MaxWeight)
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
