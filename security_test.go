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

// Who has to wait too long for others to be let in is told that it is too much; and from
// where no password lets anybody in, none is hashed, whoever it is that asks.
func TestLoginsAreNotHashedWithoutEnd(t *testing.T) {
	nodes, _ := tanodb.NewTestCluster(t, 1, tanodb.Options{Partitions: 8})
	n := nodes[0]
	for _, c := range []tanodb.SecurityChange{
		{Do: "add-user", Names: []string{"anna"}, Password: "right"},
		{Do: "add-source", Names: []string{"anna"}, CIDR: netip.MustParsePrefix("10.0.0.0/8"), Method: "password"},
		{Do: "add-source", Names: []string{"all"}, CIDR: netip.MustParsePrefix("11.0.0.0/8"), Method: "certificate"},
	} {
		if err := n.ChangeSecurity(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	overloads := func(user, from string) (overloads int) {
		for range 64 { // one of two that are ready is taken by chance
			_, err := n.Login(ctx, tanodb.Login{User: user, Password: "x", From: netip.MustParseAddr(from)})
			if errors.Is(err, kv.ErrOverload) {
				overloads++
				break
			}
			if err != tanodb.ErrLogin {
				t.Fatal(err)
			}
		}
		return overloads
	}
	for _, user := range []string{"anna", "stranger"} {
		if overloads(user, "10.0.0.1") == 0 {
			t.Errorf("%s: nobody was told", user)
		}
		for _, from := range []string{"11.0.0.1", "12.0.0.1", "::1"} {
			if overloads(user, from) != 0 {
				t.Errorf("%s from %s: passwords are hashed", user, from)
			}
		}
	}
}
