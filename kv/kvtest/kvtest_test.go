package kvtest

import (
	"testing"
	"time"

	"github.com/tanodb/tanodb/kv"
)

func TestMemory(t *testing.T) {
	now := time.Now()
	Test(t, func(t *testing.T) kv.Store {
		return &Memory{Now: func() time.Time { return now }}
	}, Options{Pass: func(d time.Duration) { now = now.Add(d) }, Large: !testing.Short()})
}
