package tanodb

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/kv"
)

// busy takes all the room for hashing; what it returns gives it back.
func (l *logins) busy() (free func()) {
	for range cap(l.hashing) {
		l.hashing <- struct{}{}
	}
	return func() {
		for range cap(l.hashing) {
			<-l.hashing
		}
	}
}

// shopFrom is a login of shop, from an address.
func shopFrom(from, password string) Login {
	return Login{User: "shop", Password: password, From: netip.MustParseAddr(from)}
}

// Many connections that come at once with one right password have it hashed once: the
// others find it remembered when it is their turn, wherever they come from. Here nothing but
// that can let them in, since what they would hash is no verifier.
func TestOnePasswordIsHashedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogins(membership.PasswordIterations)
		free := l.busy()
		const many = 3 * maxAtOnce
		let := make(chan bool, 2*many)
		for i := range 2 * many {
			from := "10.0.0.1"
			if i%2 == 0 {
				from = "10.0.0.2"
			}
			go func() {
				in, err := l.check(t.Context(), shopFrom(from, "secret"), "no verifier")
				let <- in && err == nil
			}()
		}
		synctest.Wait()
		l.remember(l.id("shop", "secret"), "no verifier")
		free()
		for range 2 * many {
			if !<-let {
				t.Error("it was hashed again")
			}
		}
		if len(l.hashing) != 0 || len(l.from) != 0 || len(l.tried) != 0 {
			t.Error("there is less room than before")
		}
		if in, err := l.check(t.Context(), shopFrom("10.0.0.1", "another"), "no verifier"); in || err != nil {
			t.Errorf("another password: %v, %v", in, err)
		}
	})
}

// Who guesses from one address cannot have all others wait.
func TestOneAddressHasFewLoginsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogins(membership.PasswordIterations)
		free := l.busy()
		ends := make(chan error, 2*maxAtOnce+1)
		guess := func(from string, i int) {
			_, err := l.check(t.Context(), shopFrom(from, fmt.Sprint(i)), "no verifier")
			ends <- err
		}
		for i := range maxAtOnce {
			go guess("2001:db8::1", i)
		}
		synctest.Wait()
		for i := range maxAtOnce {
			guess(fmt.Sprintf("2001:db8::%d", 2+i), maxAtOnce+i) // he has all of these addresses
			if err := <-ends; !errors.Is(err, kv.ErrOverload) {
				t.Errorf("one more may wait: %v", err)
			}
		}
		go guess("2001:db8:0:1::1", 0) // somebody else
		synctest.Wait()
		free()
		for range maxAtOnce + 1 {
			if err := <-ends; err != nil {
				t.Errorf("one that had room: %v", err)
			}
		}
	})
}

// A password that is used is not hashed again, however long; one that is not, is.
func TestPasswordsAreRememberedWhileUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogins(membership.PasswordIterations)
		l.remember(l.id("shop", "secret"), "no verifier")
		in := func() bool {
			in, err := l.check(t.Context(), shopFrom("10.0.0.1", "secret"), "no verifier")
			return in && err == nil
		}
		for range 3 {
			time.Sleep(loginMemory - time.Second)
			if !in() {
				t.Fatal("it is forgotten while it is used")
			}
		}
		time.Sleep(loginMemory)
		if in() {
			t.Error("it is never forgotten")
		}
	})
}

// Only a test cluster hashes with less work: what is opened in any other way takes all of
// it, for a password and for who has none.
func TestPasswordsAreHashedOftenEnough(t *testing.T) {
	n, err := Open("", Options{Storage: MemoryStorage(), Partitions: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if err := n.ChangeSecurity(t.Context(), SecurityChange{Do: "add-user", Names: []string{"shop"}, Password: "secret"}); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("SCRAM-SHA-256$%d:", membership.PasswordIterations)
	for _, v := range []string{n.state().Security().Roles[0].Verifier, n.logins.nobody} {
		if !strings.HasPrefix(v, want) {
			t.Errorf("%s; want %s…", v, want)
		}
	}
}
