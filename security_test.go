package tanodb_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
)

// What is set on one node holds on all when it is answered, and is not told to anybody who
// looks at it.
func TestSecurityOfACluster(t *testing.T) {
	nodes, _ := tanodb.NewTestCluster(t, 3, tanodb.Options{Partitions: 8})
	tanodb.WaitUp(t, nodes...)
	from := netip.MustParseAddr("10.0.0.1")
	for _, c := range []tanodb.SecurityChange{
		{Do: "add-user", Names: []string{"anna"}, Password: "right"},
		{Do: "add-source", Names: []string{"all"}, CIDR: netip.MustParsePrefix("10.0.0.0/8"), Method: "password"},
		{Do: "grant", Names: []string{"anna"}, Permissions: []tanodb.Permission{tanodb.PermAdmin}, Any: true},
		{Do: "enable"},
	} {
		if err := nodes[0].ChangeSecurity(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes {
		if !n.Secured() {
			t.Errorf("%s is not secured", n.Name())
		}
	}
	anna, err := nodes[2].Login(t.Context(), tanodb.Login{User: "anna", Password: "right", From: from})
	if err != nil || anna.MayAnywhere(tanodb.PermAdmin) != nil || anna.Name() != "anna" {
		t.Fatalf("%v", err)
	}
	if err := anna.May(tanodb.PermGet, kv.Bucket{Name: "b"}); !errors.Is(err, tanodb.ErrPermission) || !strings.Contains(err.Error(), "User 'anna' does not have 'riak_kv.get' on default/b") {
		t.Errorf("%v", err)
	}
	for name, l := range map[string]tanodb.Login{
		"nobody":            {From: from},
		"a wrong password":  {User: "anna", Password: "wrong", From: from},
		"from elsewhere":    {User: "anna", Password: "right", From: netip.MustParseAddr("11.0.0.1")},
		"with a zero byte":  {User: "anna", Password: "right\x00", From: from},
		"a role of all":     {User: "all", Password: "right", From: from},
		"a long password":   {User: "anna", Password: strings.Repeat("x", 1<<20), From: from},
		"a certificate too": {User: "anna", Certificate: "anna", From: from},
	} {
		if _, err := nodes[1].Login(t.Context(), l); err != tanodb.ErrLogin {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := nodes[1].ChangeSecurity(t.Context(), tanodb.SecurityChange{Do: "alter-user", Names: []string{"anna"}, Password: "another"}); err != nil {
		t.Fatal(err)
	}
	if err := anna.Valid(); err != tanodb.ErrLogin {
		t.Errorf("with the password of before: %v", err)
	}
	if s := nodes[0].Security(); len(s.Users) != 1 || !s.Users[0].Password || !s.Enabled || len(s.Grants) != 1 || len(s.Sources) != 1 {
		t.Errorf("%+v", s)
	}
}

// Who has to wait too long for others to be let in is told that it is too much.
func TestLoginsAreNotHashedWithoutEnd(t *testing.T) {
	n, err := tanodb.Open("", tanodb.Options{Storage: tanodb.MemoryStorage(), Partitions: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	overload := 0
	for range 64 { // one of two that are ready is taken by chance
		if _, err := n.Login(ctx, tanodb.Login{User: "stranger"}); errors.Is(err, kv.ErrOverload) {
			overload++
			break
		} else if err != tanodb.ErrLogin {
			t.Fatal(err)
		}
	}
	if overload == 0 {
		t.Error("nobody was told")
	}
}
