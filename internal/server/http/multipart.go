package httpd

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
)

// parts is an answer of multipart/mixed, whose parts go out as they come.
type parts struct {
	w        http.ResponseWriter
	boundary string
	begun    bool // the status is out: an error can only be the last part
}

func newParts(w http.ResponseWriter) *parts { return &parts{w: w, boundary: rand.Text()} }

// begin sends the head of the answer.
func (p *parts) begin() {
	if !p.begun {
		p.w.Header()["Content-Type"] = []string{"multipart/mixed; boundary=" + p.boundary}
		p.w.WriteHeader(http.StatusOK)
		p.begun = true
	}
}

// json sends a part, at once.
func (p *parts) json(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return p.send([]byte("\r\n--" + p.boundary + "\r\nContent-Type: application/json\r\n\r\n" + string(b)))
}

// send sends bytes of the answer, at once.
func (p *parts) send(b []byte) error {
	p.begin()
	if _, err := p.w.Write(b); err != nil {
		return err
	}
	return http.NewResponseController(p.w).Flush()
}

// end sends what ends the answer.
func (p *parts) end() error { return p.send([]byte("\r\n--" + p.boundary + "--\r\n")) }

// breakOff ends an answer that cannot go on: with a last part that says why, and the end of
// the connection.
func (p *parts) breakOff(why any) {
	_ = p.json(why)
	panic(http.ErrAbortHandler) // the way to break off a connection
}
