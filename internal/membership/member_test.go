package membership_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/kv"
)

func TestParseMembers(t *testing.T) {
	got, err := membership.ParseMembers("n2=db2.example.com:8099, n1=10.0.0.1:8099,N_3.x-y=[2001:db8::3]:1")
	if err != nil {
		t.Fatal(err)
	}
	want := []membership.Member{
		{Name: "n2", Address: "db2.example.com:8099"},
		{Name: "n1", Address: "10.0.0.1:8099"},
		{Name: "N_3.x-y", Address: "[2001:db8::3]:1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseMembersNamesTheBadEntry(t *testing.T) {
	for list, want := range map[string]string{
		"":                            `list of members is empty; it must be NAME=HOST:PORT,…`,
		"  ":                          `list of members is empty; it must be NAME=HOST:PORT,…`,
		"n1":                          `member 1, "n1", is not NAME=HOST:PORT`,
		"n1=h:1,n2":                   `member 2, "n2", is not NAME=HOST:PORT`,
		"n1=h:1,":                     `member 2, "", is not NAME=HOST:PORT`,
		"n1=h:1,n2=":                  `member 2, "n2=", is not NAME=HOST:PORT`,
		"n1=h:1,=h:2":                 `member 2, "", has no name`,
		"n1=h:1;n2=h:2":               `member 1, "n1", has the address "h:1;n2=h:2", whose host must stand in [] since it contains a colon`,
		"n 1=h:1":                     `member 1, "n 1", has a name with other characters than A-Z a-z 0-9 . _ -`,
		"ñ=h:1":                       `member 1, "ñ", has a name with other characters than A-Z a-z 0-9 . _ -`,
		"n1=h:1,n2=h:2,n1=h:3":        `member 3, "n1", is named twice`,
		"n1=h:1,n2=h:1":               `member 2, "n2", has the address "h:1", which is that of n1`,
		"n1=h":                        `member 1, "n1", has the address "h", which has no port`,
		"n1=h:":                       `member 1, "n1", has the address "h:", whose port is not a number from 1 to 65535`,
		"n1=h:0":                      `member 1, "n1", has the address "h:0", whose port is not a number from 1 to 65535`,
		"n1=h:65536":                  `member 1, "n1", has the address "h:65536", whose port is not a number from 1 to 65535`,
		"n1=h:+1":                     `member 1, "n1", has the address "h:+1", whose port is not a number from 1 to 65535`,
		"n1=h:http":                   `member 1, "n1", has the address "h:http", whose port is not a number from 1 to 65535`,
		"n1=:80":                      `member 1, "n1", has the address ":80", which has no host`,
		"n1=[]:80":                    `member 1, "n1", has the address "[]:80", which has no host`,
		"n1=::1:80":                   `member 1, "n1", has the address "::1:80", whose host must stand in [] since it contains a colon`,
		"n1=http://h:80":              `member 1, "n1", has the address "http://h:80", whose host must stand in [] since it contains a colon`,
		"n1=a b:80":                   `member 1, "n1", has the address "a b:80", whose host is no name or IP address`,
		"n1=h\x00:80":                 `member 1, "n1", has the address "h\x00:80", whose host is no name or IP address`,
		"n1=[::1:80":                  `member 1, "n1", has the address "[::1:80", whose host must stand in [] since it contains a colon`,
		"n1=[h]]:80":                  `member 1, "n1", has the address "[h]]:80", whose host is no name or IP address`,
		"n1=h/p:80":                   `member 1, "n1", has the address "h/p:80", whose host is no name or IP address`,
		long('n', 65) + "=h:1":        `member 1, "` + long('n', 65) + `", has a name of 65 characters; the limit is 64`,
		"n1=" + long('h', 254) + ":1": `member 1, "n1", has the address "` + long('h', 80) + `"…, whose host has 254 characters; the limit is 253`,
	} {
		_, err := membership.ParseMembers(list)
		if !errors.Is(err, kv.ErrInvalid) || err.Error() != want {
			t.Errorf("%q:\ngot  %v\nwant %s", list, err, want)
		}
	}
}

// Whatever passes is what the network's own rules take for a host and a port.
func FuzzParseMembers(f *testing.F) {
	f.Add("n1=10.0.0.1:8099,n2=[::1]:8099")
	f.Add("a=b:c,=,x=[y]:1,")
	f.Fuzz(func(t *testing.T, list string) {
		members, err := membership.ParseMembers(list)
		if err != nil {
			if members != nil || !errors.Is(err, kv.ErrInvalid) {
				t.Fatalf("%v with %v", members, err)
			}
			return
		}
		var entries []string
		for _, m := range members {
			host, port, err := net.SplitHostPort(m.Address)
			if err != nil || host == "" || port == "" {
				t.Fatalf("passed %q: host %q, port %q, %v", m.Address, host, port, err)
			}
			entries = append(entries, m.Name+"="+m.Address)
		}
		again, err := membership.ParseMembers(strings.Join(entries, ","))
		if diff := cmp.Diff(members, again); diff != "" || err != nil {
			t.Fatalf("read again: %v %s", err, diff)
		}
	})
}

func TestTooManyMembers(t *testing.T) {
	members := make([]membership.Member, membership.MaxMembers+1)
	for i := range members {
		members[i].Name = fmt.Sprintf("n%d", i)
	}
	_, err := membership.Bootstrap(members, 64, 4, 3)
	if want := "list of members has 1025 entries; the limit is 1024"; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
	if _, err := membership.Bootstrap(members[1:], 64, 4, 3); err != nil {
		t.Error(err)
	}
}

func long(c byte, n int) string { return strings.Repeat(string(c), n) }
