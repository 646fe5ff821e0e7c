package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// takeWithin is how long a client may take for a piece of a stream, or to send a form, before it is cut off. A
// server may be more patient.
const takeWithin = 10 * time.Second

// sse writes server-sent events.
type sse struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// newSSE begins a stream.
func newSSE(w http.ResponseWriter) *sse {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("X-Accel-Buffering", "no") // for proxies that would keep it back
	return &sse{w, http.NewResponseController(w)}
}

// send sends one event with a value as JSON, which has no line ends.
func (s *sse) send(event string, value any) error {
	b, err := json.Marshal(value)
	if err != nil {
		return err
	}
	// A connection without deadlines, as in tests, has no slow clients either.
	_ = s.control.SetWriteDeadline(time.Now().Add(takeWithin))
	if _, err := fmt.Fprintf(s.w, "event: %s\ndata: %s\n\n", event, b); err != nil {
		return err
	}
	return s.control.Flush()
}

// update is what a page gets of a moment.
type update struct {
	Pieces map[string]string `json:"pieces"` // those that have changed
	Past   []point           `json:"past,omitempty"`
	Point  *point            `json:"point,omitempty"`
}

// events sends a page what has changed, until the page is left or the console is closed. A
// client that is slow gets fewer of them, and never old ones.
func (c *Console) events(w http.ResponseWriter, r *http.Request) {
	wanted, ok := piecesOf[r.URL.Query().Get("page")]
	if !ok {
		http.Error(w, "there is no such page", http.StatusBadRequest)
		return
	}
	leave := c.stream(w, r)
	if leave == nil {
		return
	}
	defer leave()
	defer c.watcher.join()()

	s := newSSE(w)
	sent := map[string]string{}
	m, past, next := c.watcher.latest()
	first := update{Pieces: changed(m, wanted, sent), Past: past}
	if err := s.send("update", first); err != nil {
		return
	}
	for {
		select {
		case <-next:
		case <-r.Context().Done():
			return
		case <-c.closed:
			return
		}
		m, _, next = c.watcher.latest()
		p := newPoint(m)
		if err := s.send("update", update{Pieces: changed(m, wanted, sent), Point: &p}); err != nil {
			return
		}
	}
}

// changed are the wanted pieces that the client does not have, and notes that it has them.
func changed(m *moment, wanted []string, sent map[string]string) map[string]string {
	out := map[string]string{}
	if m == nil {
		return out
	}
	for _, id := range wanted {
		if html := m.piece(id); html != sent[id] {
			out[id], sent[id] = html, html
		}
	}
	return out
}
