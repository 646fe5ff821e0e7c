package tanodb

import (
	"testing"
	"testing/synctest"
)

// Many connections that come at once with one right password have it hashed once: the
// others find it remembered when it is their turn. Here nothing but that can let the
// second in, since what it would hash is no verifier.
func TestOnePasswordIsHashedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogins()
		for range cap(l.hashing) {
			l.hashing <- struct{}{} // others are hashing
		}
		let := make(chan bool, 1)
		go func() {
			in, err := l.check(t.Context(), "shop", "secret", "no verifier")
			let <- in && err == nil
		}()
		synctest.Wait()
		l.remember(l.id("shop", "secret"), "no verifier")
		for range cap(l.hashing) {
			<-l.hashing
		}
		if !<-let {
			t.Error("it was hashed again")
		}
		if len(l.hashing) != 0 {
			t.Error("there is less room than before")
		}
		if in, err := l.check(t.Context(), "shop", "another", "no verifier"); in || err != nil {
			t.Errorf("another password: %v, %v", in, err)
		}
	})
}
