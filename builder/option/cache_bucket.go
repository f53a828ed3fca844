package option

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Bucket selects a cache in a store of objects. Empty fields of the address and the
// credentials come from the environment.
type Bucket struct {
	Names     []string // at least one
	Prefix    string   // of the next two, which contain it
	Blobs     string   // prefix of the keys of blobs
	Manifests string   // prefix of the keys of manifests

	Bucket    string // or Azure's container
	Region    string
	Endpoint  string // or the URL of Azure's account
	PathStyle bool
	KeyID     string        // or the name of Azure's account
	Secret    string        // secret
	Token     string        // secret
	Touch     time.Duration // age at which blobs that are still used get a new time
	Parallel  int           // uploads at once; 0: not specified
	Tries     int           // of a request; 0: not specified
}

// bucketValue is a bucket while its attributes are parsed.
type bucketValue struct{ prefix, blobs, manifests string }

var bucketAttributes = table[cacheValue]{
	{key: "bucket", types: "s3", set: setText(func(c *cacheValue) *string { return &c.Bucket.Bucket })},
	{key: "region", types: "s3", set: setText(func(c *cacheValue) *string { return &c.Bucket.Region })},
	{key: "name", types: "s3 azblob", set: func(c *cacheValue, key, value string) error {
		for name := range strings.SplitSeq(value, ";") {
			if name == "" {
				return fmt.Errorf("%s=%s: a name is empty", key, value)
			}
			c.Bucket.Names = append(c.Bucket.Names, name)
		}
		return nil
	}},
	{key: "prefix", types: "s3 azblob", set: setText(func(c *cacheValue) *string { return &c.keys.prefix })},
	{key: "blobs_prefix", types: "s3 azblob", set: setText(func(c *cacheValue) *string { return &c.keys.blobs })},
	{key: "manifests_prefix", types: "s3 azblob", set: setText(func(c *cacheValue) *string { return &c.keys.manifests })},
	{key: "endpoint_url", types: "s3", set: setText(func(c *cacheValue) *string { return &c.Bucket.Endpoint })},
	{key: "use_path_style", types: "s3", set: setBool(func(c *cacheValue) *bool { return &c.Bucket.PathStyle })},
	{key: "access_key_id", types: "s3", set: setText(func(c *cacheValue) *string { return &c.Bucket.KeyID })},
	{key: "secret_access_key", types: "s3 azblob", set: setText(func(c *cacheValue) *string { return &c.Bucket.Secret })},
	{key: "session_token", types: "s3", set: setText(func(c *cacheValue) *string { return &c.Bucket.Token })},
	{key: "account_url", types: "azblob", set: setText(func(c *cacheValue) *string { return &c.Bucket.Endpoint })},
	{key: "account_name", types: "azblob", set: setText(func(c *cacheValue) *string { return &c.Bucket.KeyID })},
	{key: "container", types: "azblob", set: setText(func(c *cacheValue) *string { return &c.Bucket.Bucket })},
	{key: "touch_refresh", types: "s3", set: func(c *cacheValue, key, value string) (err error) {
		if c.Bucket.Touch, err = ParseDuration(value); err != nil {
			return fmt.Errorf("%s=%s: %w", key, value, err)
		}
		return nil
	}},
	{key: "upload_parallelism", types: "s3", set: setNumber(func(c *cacheValue) *int { return &c.Bucket.Parallel })},
	{key: "retry_max_attempts", types: "s3", set: setNumber(func(c *cacheValue) *int { return &c.Bucket.Tries })},
	{key: "retry_mode", types: "s3", ignored: true, set: func(_ *cacheValue, key, value string) error {
		if value != "standard" && value != "adaptive" {
			return fmt.Errorf("%s=%s: want standard or adaptive", key, value)
		}
		return nil
	}},
	{key: "disable_accept_encoding", types: "s3", ignored: true, set: ignoreBool[cacheValue]}, // it is never signed
}

// setNumber returns a set function that parses a number of at least 1 into a field.
func setNumber[T any](field func(*T) *int) func(*T, string, string) error {
	return func(to *T, key, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			return fmt.Errorf("%s=%s: want a number of at least 1", key, value)
		}
		*field(to) = n
		return nil
	}
}

// completeBucket fills in the defaults.
func (c *cacheValue) completeBucket() error {
	b := &c.Bucket
	if c.Type == "s3" && (b.KeyID == "") != (b.Secret == "") || b.Token != "" && b.KeyID == "" {
		return errors.New("access_key_id and secret_access_key must both be there, or neither of them and no session_token")
	}
	if len(b.Names) == 0 {
		b.Names = []string{"cairn"}
	}
	if b.Touch == 0 {
		b.Touch = 24 * time.Hour
	}
	b.Prefix = c.keys.prefix
	b.Blobs, b.Manifests = b.Prefix+c.keys.blobs, b.Prefix+c.keys.manifests
	if c.Type == "azblob" { // the parts are names of folders
		b.Blobs, b.Manifests = path.Join(b.Prefix, c.keys.blobs)+"/", path.Join(b.Prefix, c.keys.manifests)+"/"
	}
	return nil
}

// RedactCache returns the text of a cache without secrets, for messages.
func RedactCache(text string) string { return secretValues().ReplaceAllString(text, "${1}=xxxxx") }

var secretValues = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)\b(token|ghtoken|secret_access_key|session_token|sig)=[^,"&]*`)
})
