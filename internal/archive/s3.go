package archive

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/tanodb/tanodb/internal/backup"
)

// s3 is a Store in a bucket of an S3 store.
type s3 struct {
	client *minio.Client
	bucket string
	prefix string
}

// The variables of the environment that say which store is meant, by the names that Amazon's
// own tools give them. Who may use it they say too, or the file of credentials: nothing
// secret is ever in an argument.
const (
	envEndpointS3 = "AWS_ENDPOINT_URL_S3"
	envEndpoint   = "AWS_ENDPOINT_URL"
	envRegion     = "AWS_REGION"

	amazon = "https://s3.amazonaws.com"
)

// openS3 opens BUCKET/PREFIX.
func openS3(place string) (*s3, error) {
	bucket, prefix, _ := strings.Cut(place, "/")
	if bucket == "" {
		return nil, fmt.Errorf("%s%s names no bucket; write %sBUCKET/PREFIX", scheme, place, scheme)
	}
	endpoint := cmp.Or(os.Getenv(envEndpointS3), os.Getenv(envEndpoint), amazon)
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%s is %q; it must be a URL such as %s", envEndpoint, endpoint, amazon)
	}
	client, err := minio.New(u.Host, &minio.Options{
		Creds: credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.EnvMinio{}, &credentials.FileAWSCredentials{},
		}),
		Secure: u.Scheme == "https",
		Region: os.Getenv(envRegion),
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", endpoint, err)
	}
	return &s3{client: client, bucket: bucket, prefix: strings.Trim(prefix, "/")}, nil
}

func (s *s3) key(name string) string { return path.Join(s.prefix, name) }

// Where implements Store.
func (s *s3) Where(name string) string { return scheme + path.Join(s.bucket, s.key(name)) }

// Put implements Store.
func (s *s3) Put(ctx context.Context, name string, data []byte) error {
	_, err := s.client.PutObject(ctx, s.bucket, s.key(name), bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{
		ContentType: "application/octet-stream",
		PartSize:    1 << 30, // a chunk goes in one piece, and so appears whole
	})
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", s.Where(name), explained(err))
	}
	return nil
}

// Get implements Store.
func (s *s3) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	o, err := s.client.GetObject(ctx, s.bucket, s.key(name), minio.GetObjectOptions{})
	if err != nil {
		return nil, explained(err)
	}
	defer o.Close()
	b, err := io.ReadAll(io.LimitReader(o, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%w: it is longer than %d bytes", backup.ErrCorrupt, limit)
	}
	return b, explained(err)
}

// Has implements Store.
func (s *s3) Has(ctx context.Context, name string) (bool, error) {
	_, err := s.client.StatObject(ctx, s.bucket, s.key(name), minio.StatObjectOptions{})
	if missing(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", s.Where(name), explained(err))
	}
	return true, nil
}

// List implements Store.
func (s *s3) List(ctx context.Context, folder string) ([]string, error) {
	var names []string
	prefix := s.key(folder) + "/"
	for o := range s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix}) {
		if o.Err != nil {
			return nil, explained(o.Err)
		}
		if name := strings.TrimPrefix(o.Key, prefix); name != "" && !strings.Contains(name, "/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Unfinished implements Store: what was not finished is not seen.
func (*s3) Unfinished(context.Context, string) ([]string, error) { return nil, nil }

// Remove implements Store.
func (s *s3) Remove(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := s.client.RemoveObject(ctx, s.bucket, s.key(name), minio.RemoveObjectOptions{}); err != nil && !missing(err) {
			return fmt.Errorf("cannot remove %s: %w", s.Where(name), explained(err))
		}
	}
	return nil
}

// missing reports whether the store has no such object.
func missing(err error) bool {
	r := minio.ToErrorResponse(err)
	return err != nil && (r.Code == minio.NoSuchKey || r.StatusCode == http.StatusNotFound && r.Code != minio.NoSuchBucket)
}

// explained is an error of the store in the words of this package.
func explained(err error) error {
	switch {
	case err == nil:
		return nil
	case missing(err):
		return fs.ErrNotExist
	case minio.ToErrorResponse(err).Code == minio.AccessDenied:
		return fmt.Errorf("%w (who is asking stands in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in ~/.aws/credentials)", err)
	}
	return err
}
