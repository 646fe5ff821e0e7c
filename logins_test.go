package tanodb

import (
	"testing"
	"testing/synctest"
)

// Many connections of one user are made at once when a node has just started: the password
// is hashed once, and the others that waited for their turn are let in by what came of it.
func TestAPasswordIsHashedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogins()
		const verifier = "none that any password fits" // so that to hash is to refuse
		for range cap(l.hashing) {
			l.hashing <- struct{}{}
		}
		let := make(chan bool, 64)
		for range cap(let) {
			go func() {
				right, err := l.check(t.Context(), "anna", "right", verifier)
				let <- right && err == nil
			}()
		}
		synctest.Wait() // they all wait
		l.remember(l.id("anna", "right"), verifier)
		for range cap(l.hashing) {
			<-l.hashing
		}
		for range cap(let) {
			if !<-let {
				t.Fatal("the password is hashed again")
			}
		}
		if right, err := l.check(t.Context(), "anna", "wrong", verifier); right || err != nil {
			t.Errorf("a wrong password: %t, %v", right, err)
		}
	})
}
