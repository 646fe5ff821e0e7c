package httpd

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

// requestError is a fault of the HTTP request itself. Its text is the body of
// the answer, with the end of its line.
type requestError struct {
	status int
	text   string
}

func (e *requestError) Error() string { return strings.TrimSuffix(e.text, "\n") }

// Is makes what is wrong with an argument match kv.ErrInvalid, as the store's
// own complaints do.
func (e *requestError) Is(target error) bool {
	return target == kv.ErrInvalid && (e.status == http.StatusBadRequest || e.status == http.StatusRequestEntityTooLarge)
}

func badRequest(text string) error { return &requestError{http.StatusBadRequest, text} }

// The faults of requests that have no values in their text.
var (
	errNoRoute      = &requestError{http.StatusNotFound, "there is no such resource\n"}
	errMethod       = &requestError{http.StatusMethodNotAllowed, "the resource does not have this method; see the Allow header\n"}
	errContentType  = &requestError{http.StatusBadRequest, "Missing Content-Type request header"}
	errAsIs         = badRequest("asis is not supported: a version is always made by the vnode that coordinates the write\n")
	errBodyLarge    = &requestError{http.StatusRequestEntityTooLarge, "the value is too large; the limit is " + strconv.Itoa(kv.MaxObject) + " bytes\n"}
	errBodyShort    = &requestError{http.StatusBadRequest, "the body ended before its Content-Length\n"}
	errBodySlow     = &requestError{http.StatusRequestTimeout, "the body came too slowly\n"}
	errBodies       = &requestError{http.StatusServiceUnavailable, "overload: too many bytes of request bodies and lists are in progress\n"}
	errVclock       = &requestError{http.StatusBadRequest, "X-Riak-Vclock is not base64\n"}
	errRequestID    = &requestError{http.StatusBadRequest, "X-Tanodb-Request-Id must be 32 hexadecimal digits\n"}
	errExpires      = &requestError{http.StatusBadRequest, "X-Tanodb-Expires must be a date as in HTTP or RFC 3339\n"}
	errVTag         = &requestError{http.StatusNotFound, "not found\n"}
	errModified     = &requestError{http.StatusConflict, "modified\n"}
	errCondition    = &requestError{http.StatusPreconditionFailed, "the precondition of the request does not hold\n"}
	errOrderType    = &requestError{http.StatusUnsupportedMediaType, "Content-Type must be application/json\n"}
	errOrderLarge   = &requestError{http.StatusRequestEntityTooLarge, "the body is too large; the limit is " + strconv.Itoa(maxOrder) + " bytes\n"}
	errIndexLarge   = &requestError{http.StatusBadRequest, "the matches are too many for one answer; ask for them with stream=true or max_results\n"}
	errBucketsLarge = &requestError{http.StatusBadRequest, "the buckets are too many for one answer; list them with buckets=stream\n"}
	errBucketsParam = badRequest("buckets query parameter must be true or stream\n")
	errListLarge    = &requestError{http.StatusBadRequest, "the keys are too many for one answer; list them with keys=stream\n"}
)

// statusOf is the one place where errors become statuses.
func statusOf(err error) int {
	var bad *requestError
	var refused *tanodb.ClusterError
	switch {
	case errors.As(err, &bad):
		return bad.status
	case errors.As(err, &refused):
		return statusOfCluster(api.Code(refused.Code))
	case errors.Is(err, kv.ErrNotFound), errors.Is(err, kv.ErrBucketType):
		return http.StatusNotFound
	case errors.Is(err, kv.ErrDataType):
		return http.StatusForbidden
	case errors.Is(err, kv.ErrInvalid), errors.Is(err, kv.ErrContext), errors.Is(err, kv.ErrPrecondition), errors.Is(err, kv.ErrOverflow):
		return http.StatusBadRequest
	case errors.Is(err, kv.ErrTooManySiblings), errors.Is(err, kv.ErrModified):
		return http.StatusConflict
	case errors.Is(err, kv.ErrExists):
		return http.StatusPreconditionFailed
	case errors.Is(err, kv.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, kv.ErrQuorum), errors.Is(err, kv.ErrTimeout), errors.Is(err, kv.ErrInDoubt),
		errors.Is(err, kv.ErrOverload), errors.Is(err, kv.ErrClosed), errors.Is(err, kv.ErrClock),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// statusOfCluster is the status of a change of the cluster that was not made.
func statusOfCluster(code api.Code) int {
	switch code {
	case api.CodeNoMajority, api.CodeTimeout, api.CodeInDoubt:
		return http.StatusServiceUnavailable
	case api.CodeInvalid:
		return http.StatusBadRequest
	}
	return http.StatusConflict
}

// text is the body of an error on Riak's routes.
func text(err error, replies []kv.Reply) string {
	var bad *requestError
	if errors.As(err, &bad) {
		return bad.text
	}
	var q *kv.QuorumError
	if errors.As(err, &q) && !q.Timeout {
		got := q.Got
		if _, primaries, asked := api.Standing(replies); !asked && (q.Need == "PR" || q.Need == "PW") {
			got = primaries
		}
		return q.Need + "-value unsatisfied: " + strconv.Itoa(got) + "/" + strconv.Itoa(q.Want) + "\n"
	}
	var invalid *kv.InvalidError
	if errors.As(err, &invalid) && isQuorum(invalid.What) {
		return "Specified w/dw/pw/node_confirms values invalid for bucket n value of " + strconv.Itoa(api.Replicas(invalid)) + "\n"
	}
	switch {
	case errors.Is(err, kv.ErrNotFound):
		return "not found\n"
	case errors.Is(err, kv.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return "request timed out\n"
	case statusOf(err) == http.StatusInternalServerError:
		return "Error:\n" + err.Error() + "\n"
	}
	return err.Error() + "\n"
}

// isQuorum reports whether an invalid argument is a count of replicas.
func isQuorum(what string) bool {
	switch what {
	case "N", "R", "PR", "W", "DW", "PW", "node_confirms":
		return true
	}
	return false
}

// refuse answers a request that did not come as far as the store.
func (h *handler) refuse(w http.ResponseWriter, t target, err error) {
	h.fail(w, t, err, nil, nil)
}

// fail answers with an error: text on Riak's routes, JSON on our own with the
// context and the replies that came with it.
func (h *handler) fail(w http.ResponseWriter, t target, err error, c kv.Context, replies []kv.Reply) {
	if errors.Is(err, kv.ErrOverload) || errors.Is(err, errBodies) {
		w.Header()["Retry-After"] = []string{retryAfter(err)}
	}
	if t.own {
		body := api.NewError(err, c, replies)
		var bad *requestError
		switch {
		case errors.Is(err, errBodies):
			body.Code = api.CodeOverload // it passes
		case errors.As(err, &bad) && !errors.Is(err, kv.ErrInvalid):
			body.Code = api.CodeRequest
		}
		writeJSON(w, statusOf(err), body)
		return
	}
	head := w.Header()
	if errors.Is(err, kv.ErrNotFound) && len(c) > 0 {
		// What is not found and has a context was deleted, or has expired.
		setContext(head, c)
		head["X-Riak-Deleted"] = []string{"true"}
	}
	if errors.Is(err, kv.ErrInDoubt) {
		head["X-Tanodb-In-Doubt"] = []string{"true"}
	}
	body := text(err, replies)
	if errors.Is(err, kv.ErrBucketType) {
		body = "Unknown bucket type: " + t.key.Type + "\n"
	}
	if whole := err.Error(); whole != strings.TrimSuffix(body, "\n") {
		head["X-Tanodb-Error"] = []string{oneLine(whole)}
	}
	writeText(w, statusOf(err), body)
}

// retryAfter is when one who was refused should come again, in whole seconds. Where
// nobody knows, requests that are in progress now will mostly be over in one.
func retryAfter(err error) string {
	var limit interface{ RetryAfter() time.Duration }
	wait := time.Second
	if errors.As(err, &limit) {
		wait = limit.RetryAfter()
	}
	return strconv.FormatInt(int64(max(1, math.Ceil(wait.Seconds()))), 10)
}

// oneLine makes a text fit for a header.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

func writeText(w http.ResponseWriter, status int, body string) {
	w.Header()["Content-Type"] = textPlain
	w.WriteHeader(status)
	// A client that does not want the answer any more is nobody's fault.
	_, _ = w.Write([]byte(body))
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		writeText(w, http.StatusInternalServerError, "Error:\n"+err.Error()+"\n")
		return
	}
	w.Header()["Content-Type"] = applicationJSON
	writeWhole(w, status, append(b, '\n'))
}

// writeWhole writes an answer that is not in pieces, and tells its length: there are clients that
// take one without, which comes in chunks, for pieces.
func writeWhole(w http.ResponseWriter, status int, body []byte) {
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone is nobody's fault
}

// writePiece writes a piece of a listing, in a chunk of its own and with nothing after it, as Riak
// does: there are clients that look for the end of a document only where a chunk ends. It breaks
// off the connection where that cannot be done.
func writePiece(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err == nil {
		_, err = w.Write(b)
	}
	if err != nil || http.NewResponseController(w).Flush() != nil {
		panic(http.ErrAbortHandler) // the way to break off a connection
	}
}

// breakOff ends a listing of which pieces are out with its error, and breaks off the connection.
func breakOff(w http.ResponseWriter, err error) {
	writePiece(w, map[string]string{"error": err.Error()})
	panic(http.ErrAbortHandler)
}

// writeNoContent answers that all is done. There is a type to it, though nothing is of that type:
// Riak tells it of every answer, and there are clients that count on it.
func writeNoContent(w http.ResponseWriter, media []string) {
	w.Header()["Content-Type"] = media
	w.WriteHeader(http.StatusNoContent)
}

var (
	textPlain       = []string{"text/plain"}
	applicationJSON = []string{"application/json"}
)
