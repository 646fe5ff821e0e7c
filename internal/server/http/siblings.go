package httpd

import (
	"crypto/rand"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/tanodb/tanodb/kv"
)

// showSiblings answers with status 300: a list of version tags, to choose from
// with ?vtag=, or if the client prefers it all values as multipart/mixed.
func showSiblings(w http.ResponseWriter, r *http.Request, t target, obj *kv.Object) {
	head := w.Header()
	setObject(head, obj)
	setLinks(head, t, nil)
	head["Etag"] = []string{etag(obj)}
	head["Last-Modified"] = []string{httpDate(lastModified(obj.Values))}
	var body []byte
	if prefersMultipart(r.Header["Accept"]) {
		boundary := rand.Text()
		head["Content-Type"] = []string{"multipart/mixed; boundary=" + boundary}
		body = multipartBody(t, obj.Values, boundary)
	} else {
		head["Content-Type"] = textPlain
		body = siblingList(obj.Values)
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusMultipleChoices)
		return
	}
	writeWhole(w, http.StatusMultipleChoices, body)
}

// siblingList is the version tags, one a line.
func siblingList(vs []kv.Value) []byte {
	b := []byte("Siblings:\n")
	for _, v := range vs {
		b = append(b, v.VTag...)
		b = append(b, '\n')
	}
	return b
}

// multipartBody is all values, each with its headers.
func multipartBody(t target, vs []kv.Value, boundary string) []byte {
	size := 0
	for _, v := range vs {
		size += len(v.Data) + 512 // about what the headers take
	}
	b := make([]byte, 0, size)
	for i := range vs {
		b = append(b, "\r\n--"+boundary+"\r\n"...)
		head := http.Header{}
		setValue(head, &vs[i])
		setLinks(head, t, vs[i].Meta)
		b = appendHeader(b, head)
		b = append(b, "\r\n"...)
		b = append(b, vs[i].Data...)
	}
	return append(b, "\r\n--"+boundary+"--\r\n"...)
}

// appendHeader appends the headers, sorted by name.
func appendHeader(b []byte, h http.Header) []byte {
	var names []string
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range h[name] {
			b = append(b, name+": "+value+"\r\n"...)
		}
	}
	return b
}

// prefersMultipart reports whether the Accept headers name multipart/mixed, and
// rank it no lower than text. A client that takes anything gets text.
func prefersMultipart(accept []string) bool {
	multipart, text, textIs := 0.0, 0.0, 0
	for _, header := range accept {
		for part := range strings.SplitSeq(header, ",") {
			media, params, _ := strings.Cut(part, ";")
			q := quality(params)
			media = strings.TrimSpace(media)
			switch {
			case strings.EqualFold(media, "multipart/mixed"), strings.EqualFold(media, "multipart/*"):
				multipart = max(multipart, q)
			case specificity(media) > textIs:
				text, textIs = q, specificity(media)
			}
		}
	}
	return multipart > 0 && multipart >= text
}

// specificity is how exactly a media range means text/plain; 0: not at all.
func specificity(media string) int {
	switch strings.ToLower(media) {
	case "text/plain":
		return 3
	case "text/*":
		return 2
	case "*/*":
		return 1
	}
	return 0
}

// quality is the q of a media range's parameters, 1 if there is none.
func quality(params string) float64 {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if !strings.EqualFold(name, "q") {
			continue
		}
		if q, err := strconv.ParseFloat(value, 64); err == nil && q >= 0 && q <= 1 {
			return q
		}
	}
	return 1
}
