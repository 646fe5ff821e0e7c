package httpd

import (
	"encoding/base64"
	"encoding/hex"
	"hash/fnv"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// The headers of a value, in both directions:
//
//	Content-Type, Content-Encoding   the charset parameter is kept apart, as in Riak; on Riak's
//	                                 routes a write must have a Content-Type
//	X-Riak-Vclock                    the context, base64
//	X-Riak-Meta-NAME                 metadata; NAME becomes lower case
//	X-Riak-Index-FIELD_bin, _int     index entries, several parted by a comma and a space
//	X-Tanodb-Expires                 when the value is gone: a date as in HTTP, or RFC 3339
//	X-Tanodb-Request-Id              32 hexadecimal digits that name a write: repeated, it is shown once
//
// and in answers only:
//
//	X-Tanodb-Omitted                 how many pieces of metadata and index entries no header can hold
const (
	metaPrefix  = "X-Riak-Meta-"
	indexPrefix = "X-Riak-Index-"
)

// parseValue makes a value of the headers and the body of a request.
func parseValue(h http.Header, data []byte) (kv.Value, error) {
	v := kv.Value{Data: data}
	if encoding := h["Content-Encoding"]; len(encoding) > 0 {
		v.ContentEncoding = encoding[0]
	}
	var err error
	if header := first(h, "Content-Type"); header != "" {
		if v.ContentType, v.Charset, err = parseContentType(header); err != nil {
			return v, err
		}
	}
	if v.Expires, err = parseExpires(first(h, "X-Tanodb-Expires")); err != nil {
		return v, err
	}
	v.Meta, v.Indexes, err = parsePairs(h)
	return v, err
}

func first(h http.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// parseContentType parts the charset from the rest.
func parseContentType(header string) (contentType, charset string, err error) {
	media, params, more := strings.Cut(header, ";")
	major, minor, found := strings.Cut(media, "/")
	if !found || strings.TrimSpace(major) == "" || strings.TrimSpace(minor) == "" {
		return "", "", &requestError{http.StatusUnsupportedMediaType, strconv.Quote(media) + " is not a valid media type for the Content-type header.\n"}
	}
	if !more {
		return header, "", nil
	}
	kept := []string{strings.TrimSpace(media)}
	for param := range strings.SplitSeq(params, ";") {
		param = strings.TrimSpace(param)
		name, value, _ := strings.Cut(param, "=")
		switch {
		case strings.EqualFold(name, "charset"):
			charset = strings.Trim(value, `"`)
		case param != "":
			kept = append(kept, param)
		}
	}
	return strings.Join(kept, "; "), charset, nil
}

func parseExpires(header string) (time.Time, error) {
	if header == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, header); err == nil {
		return t, nil
	}
	if t, err := http.ParseTime(header); err == nil {
		return t, nil
	}
	return time.Time{}, errExpires
}

// parsePairs collects metadata and index entries, in the order of the headers'
// names: the order on the wire is lost in an http.Header.
func parsePairs(h http.Header) (meta, indexes []kv.Pair, err error) {
	var names []string
	for name := range h {
		if strings.HasPrefix(name, metaPrefix) || strings.HasPrefix(name, indexPrefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range h[name] {
			if field, ok := strings.CutPrefix(name, metaPrefix); ok {
				meta = append(meta, kv.Pair{Name: strings.ToLower(field), Value: value})
				continue
			}
			field := strings.ToLower(strings.TrimPrefix(name, indexPrefix))
			for term := range strings.SplitSeq(value, ", ") {
				if err := checkIndex(field, term); err != nil {
					return nil, nil, err
				}
				indexes = append(indexes, kv.Pair{Name: field, Value: term})
			}
		}
	}
	return meta, indexes, nil
}

// checkIndex reports whether an index entry has a known type and a term of it.
func checkIndex(field, term string) error {
	switch {
	case strings.HasSuffix(field, "_bin"):
		return nil
	case !strings.HasSuffix(field, "_int"):
		return badRequest("Unknown field type for field: '" + field + "'.\n")
	}
	if _, err := strconv.ParseInt(term, 10, 64); err != nil {
		return badRequest("Could not parse field '" + field + "', value '" + term + "'.\n")
	}
	return nil
}

// parseContext reads the context of a request; none: nil.
func parseContext(h http.Header) (kv.Context, error) {
	header := first(h, "X-Riak-Vclock")
	if header == "" {
		return nil, nil
	}
	c, err := base64.StdEncoding.DecodeString(header)
	if err != nil {
		return nil, errVclock
	}
	return c, nil
}

// parseRequestID reads the name of a write; none: zero.
func parseRequestID(h http.Header) (id kv.RequestID, err error) {
	header := first(h, "X-Tanodb-Request-Id")
	if header == "" {
		return id, nil
	}
	if len(header) != hex.EncodedLen(len(id)) {
		return id, errRequestID
	}
	if _, err := hex.Decode(id[:], []byte(header)); err != nil {
		return id, errRequestID
	}
	return id, nil
}

func setContext(h http.Header, c kv.Context) {
	if len(c) > 0 {
		h["X-Riak-Vclock"] = []string{base64.StdEncoding.EncodeToString(c)}
	}
}

// setObject writes what is true of all values of a key.
func setObject(h http.Header, o *kv.Object) {
	setContext(h, o.Context)
	h["Vary"] = varyAccept
	h["Content-Security-Policy"] = sandbox
}

var (
	varyAccept = []string{"Accept"} // siblings are sent as text or as multipart

	// A value may be a page, of whoever wrote it. In a browser it is of no site then, and runs no
	// scripts: else they would act as who looks at it, on the console too.
	sandbox = []string{"sandbox"}
)

// setValue writes the headers of one value. It is also the head of a part of
// siblings.
func setValue(h http.Header, v *kv.Value) {
	h["Content-Type"] = []string{contentType(v)}
	if v.ContentEncoding != "" && fits(v.ContentEncoding) {
		h["Content-Encoding"] = []string{v.ContentEncoding}
	}
	h["Etag"] = []string{`"` + v.VTag + `"`}
	h["Last-Modified"] = []string{httpDate(v.Modified)}
	if !v.Expires.IsZero() {
		h["X-Tanodb-Expires"] = []string{v.Expires.UTC().Format(time.RFC3339Nano)}
	}
	if v.Deleted {
		h["X-Riak-Deleted"] = []string{"true"}
	}
	if len(v.Meta)+len(v.Indexes) > 0 {
		setPairs(h, v)
	}
}

// setPairs writes metadata and index entries, as far as a header can hold them.
func setPairs(h http.Header, v *kv.Value) {
	omitted := 0
	for _, p := range v.Meta {
		if _, ok := shownLink(p); ok {
			continue // setLinks writes it
		}
		if !isToken(p.Name) || !fits(p.Value) {
			omitted++
			continue
		}
		h.Add(metaPrefix+p.Name, p.Value)
	}
	terms := map[string]string{}
	for _, p := range v.Indexes {
		if !isToken(p.Name) || !fits(p.Value) || strings.Contains(p.Value, ", ") {
			omitted++
			continue
		}
		name := http.CanonicalHeaderKey(indexPrefix + p.Name)
		if before, ok := terms[name]; ok {
			p.Value = before + ", " + p.Value
		}
		terms[name] = p.Value
		h[name] = []string{p.Value}
	}
	if omitted > 0 {
		h["X-Tanodb-Omitted"] = []string{strconv.Itoa(omitted)}
	}
}

func contentType(v *kv.Value) string {
	if v.ContentType == "" || !fits(v.ContentType) || !fits(v.Charset) {
		return "application/octet-stream"
	}
	if v.Charset == "" {
		return v.ContentType
	}
	return v.ContentType + "; charset=" + v.Charset
}

// fits reports whether a header can hold the text: no control characters, and
// no blanks at its ends, which are cut off on the way.
func fits(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return strings.TrimSpace(s) == s
}

// isToken reports whether the text can be part of a header's name.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

// httpDate is http.TimeFormat, appended by hand: it is on the way of every read.
func httpDate(t time.Time) string {
	return string(t.UTC().AppendFormat(make([]byte, 0, len(http.TimeFormat)), http.TimeFormat))
}

// etag names the state of a key: the version tag of its only value, or a hash
// of the context of its siblings.
func etag(o *kv.Object) string {
	if len(o.Values) == 1 {
		return `"` + o.Values[0].VTag + `"`
	}
	h := fnv.New64a()
	h.Write(o.Context)
	return `"` + strconv.FormatUint(h.Sum64(), 36) + `"`
}

// lastModified is when the newest value was written.
func lastModified(vs []kv.Value) time.Time {
	var last time.Time
	for _, v := range vs {
		if v.Modified.After(last) {
			last = v.Modified
		}
	}
	return last
}
