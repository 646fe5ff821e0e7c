package membership

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// nestedSlowly is what nested is, by looking again and again.
func nestedSlowly(s *Security, i int) []string {
	all := []string{s.Roles[i].Name}
	for at := 0; at < len(all); at++ {
		r, _ := s.Role(all[at])
		for _, g := range r.Groups {
			if !slices.Contains(all, g) {
				all = append(all, g)
			}
		}
	}
	slices.Sort(all)
	return all
}

// namesOf are the roles of a set.
func namesOf(s *Security, set roleSet) []string {
	names := []string{}
	set.contain(func(i int) bool {
		names = append(names, s.Roles[i].Name)
		return false
	})
	return names
}

// What each role is comes out the same by the walk and by looking again and again, whatever
// groups are in each other.
func TestNestedRoles(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := &Security{}
		many := 1 + r.IntN(150)
		for i := range many {
			s.Roles = append(s.Roles, Role{Name: fmt.Sprintf("%03d", i), Group: true})
		}
		for range r.IntN(2 * many) { // few make trees, many circles within circles
			role := &s.Roles[r.IntN(many)]
			role.Groups = append(role.Groups, s.Roles[r.IntN(many)].Name)
		}
		sets := s.nested()
		for i := range s.Roles {
			if got, want := namesOf(s, sets[i]), nestedSlowly(s, i); !slices.Equal(got, want) {
				t.Fatalf("seed %d: %s is %v, want %v", seed, s.Roles[i].Name, got, want)
			}
		}
	}
}

// crowd are as many roles as there may be, users in the second half, each in as many groups
// as it may be, which have names of some length.
func crowd(length int, pad string) *Security {
	s := &Security{}
	name := func(i int) string { return fmt.Sprintf("%04d", i) + strings.Repeat(pad, length-4) }
	for i := range maxRoles {
		role := Role{Name: name(i), Group: i < maxRoles/2}
		for j := range maxRoleGroups {
			role.Groups = append(role.Groups, name((i+1+j)%(maxRoles/2)))
		}
		slices.Sort(role.Groups)
		s.Roles = append(s.Roles, role)
	}
	return s
}

// The largest crowd is settled by looking at each membership a few times: by looking for each
// user again and again it would take minutes.
func TestALargeCrowdIsSettled(t *testing.T) {
	s := crowd(4, "")
	if err := s.settle(); err != nil {
		t.Fatal(err)
	}
	last := s.Roles[maxRoles-1].Name
	if n := len(namesOf(s, s.roles[last])); n != maxRoles/2+1 {
		t.Errorf("%s is %d roles, want all groups, which are one circle, and himself", last, n)
	}
}

// What can be kept can be sent: memberships count, and characters that take more where they
// are sent than where they are written.
func TestWhatIsTooLargeToSend(t *testing.T) {
	for name, s := range map[string]*Security{
		"many memberships":           crowd(20, "x"),
		"few bytes that become many": crowd(7, "<"),
	} {
		if err := s.settle(); err == nil || !strings.Contains(err.Error(), "would take more than") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
