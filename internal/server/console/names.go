package console

import (
	"net/url"

	"github.com/tanodb/tanodb/kv"
)

// readNames reads the names of a key from a form or an address. With escaped=1 they are
// percent-encoded once more: that is how names that nobody can type get into a form.
func readNames(get func(string) string) (kv.Key, error) {
	k := kv.Key{Type: get("type"), Bucket: get("bucket"), Name: get("key")}
	if get("escaped") != "" {
		for what, name := range map[string]*string{"bucket": &k.Bucket, "key": &k.Name} {
			plain, err := url.PathUnescape(*name)
			if err != nil {
				return k, &kv.InvalidError{What: what, Problem: "has a percent sign that begins no escape"}
			}
			*name = plain
		}
	}
	k.Type = kv.PlainType(k.Type)
	return k, nil
}

// typed are names as a form has them: percent-encoded, if one of them cannot be typed.
func typed(k kv.Key) (bucket, key string, escaped bool) {
	if (k.Bucket == "" || plain(k.Bucket)) && (k.Name == "" || plain(k.Name)) {
		return k.Bucket, k.Name, false
	}
	return url.PathEscape(k.Bucket), url.PathEscape(k.Name), true
}

// watchAt is the form that watches a key.
func watchAt(t, bucket, key string) string {
	return query("/watch", "type", t, "bucket", bucket, "key", key)
}
