package httpd

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/tanodb/tanodb"
)

// lookAgain is how often it is looked whether somebody may still have what he is being sent.
const lookAgain = time.Second

// lasts are the resources whose answers may take long. What is not served here, such as the
// console's streams, may too.
var lasts = map[resource]bool{
	bucket: true, oldBucket: true, buckets: true, index: true, mapred: true, walk: true,
	backupHome: true, restore: true, restoreTypes: true,
}

// still says why who is being served would not be any more; nil: he would. A nil user was
// nobody, when anybody was served.
func (g *Guard) still(user *tanodb.User, q asked) error {
	if user != nil {
		return mayAll(user, q.needs)
	}
	if g.Gate.Secured() {
		return tanodb.ErrLogin
	}
	return nil
}

// whileAllowed has a request served, and ends its context as soon as it would not be any more.
func (g *Guard) whileAllowed(handler http.Handler, w http.ResponseWriter, r *http.Request, q asked, user *tanodb.User) {
	if q.routed && !lasts[q.target.resource] {
		handler.ServeHTTP(w, r)
		return
	}
	ctx, end := context.WithCancelCause(r.Context())
	var looking sync.WaitGroup
	defer looking.Wait()
	defer end(nil)
	looking.Go(func() {
		again := time.NewTicker(lookAgain)
		defer again.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-again.C:
			}
			if err := g.still(user, q); err != nil {
				end(err)
				return
			}
		}
	})
	handler.ServeHTTP(w, r.WithContext(ctx))
}
