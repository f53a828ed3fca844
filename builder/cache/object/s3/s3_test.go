package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cairn-build/cairn/builder/cache/object"
	"github.com/cairn-build/cairn/builder/cache/object/s3/fake"
	"github.com/cairn-build/cairn/registry/auth/aws"
)

// TestSignature signs the requests of Amazon's documentation, which has the signatures.
func TestSignature(t *testing.T) {
	t.Parallel()
	own := Credentials{ID: "AKIAIOSFODNN7EXAMPLE", Secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
	at := time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		method, path, query, payload string
		header                       map[string]string
		more                         []string
		want                         string
	}{
		{"GET", "test.txt", "", emptyHash, map[string]string{"Range": "bytes=0-9"}, []string{"range"}, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
		{"PUT", "test$file.text", "", aws.Hash("Welcome to Amazon S3."), map[string]string{"Date": "Fri, 24 May 2013 00:00:00 GMT", "X-Amz-Storage-Class": "REDUCED_REDUNDANCY"}, []string{"date"}, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
		{"GET", "", "lifecycle=", emptyHash, nil, nil, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
		{"GET", "", "prefix=J&max-keys=2", emptyHash, nil, nil, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), test.method, "https://examplebucket.s3.amazonaws.com/"+aws.Escape(test.path, true)+"?"+test.query, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range test.header {
			req.Header.Set(name, value)
		}
		aws.Sign(req, own, "us-east-1", "s3", test.payload, at, test.more...)
		if got := req.Header.Get("Authorization"); !strings.HasSuffix(got, "Signature="+test.want) {
			t.Errorf("%s %s: %s, want %s", test.method, test.path, got, test.want)
		}
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		endpoint, bucket, region string
		path                     bool
		want                     string
	}{
		{"", "b", "eu-west-1", false, "https://b.s3.eu-west-1.amazonaws.com"},
		{"", "b.example", "eu-west-1", false, "https://s3.eu-west-1.amazonaws.com/b.example"},
		{"", "b", "cn-north-1", false, "https://b.s3.cn-north-1.amazonaws.com.cn"},
		{"https://storage.googleapis.com", "b", "auto", false, "https://b.storage.googleapis.com"},
		{"https://id.r2.cloudflarestorage.com/", "b", "auto", true, "https://id.r2.cloudflarestorage.com/b"},
		{"http://127.0.0.1:9000", "b", "x", false, "http://127.0.0.1:9000/b"},
		{"http://[::1]:9000/under", "b", "x", false, "http://[::1]:9000/under/b"},
		{"http://localhost:9000", "b", "x", false, "http://localhost:9000/b"},
		{"ftp://x", "b", "x", false, ""},
		{"minio:9000", "b", "x", false, ""},
		{"https://user@x", "b", "x", false, ""},
	} {
		u, err := address(test.endpoint, test.bucket, test.region, test.path)
		if test.want == "" {
			if err == nil {
				t.Errorf("%+v: %s, want an error", test, u)
			}
		} else if err != nil || u.String() != test.want {
			t.Errorf("%+v: %v, %v", test, u, err)
		}
	}
}

func start(t *testing.T, s *fake.Server) string {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server.URL
}

func client(t *testing.T, s *fake.Server, o Options) *Client {
	t.Helper()
	o.Endpoint = start(t, s)
	if o.Bucket == "" {
		o.Bucket = fake.Bucket
	}
	if o.Region == "" {
		o.Region = fake.Region
	}
	if o.Credentials.ID == "" {
		o.Credentials = Credentials{ID: fake.User.ID, Secret: fake.User.Secret}
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func content(data []byte) object.Content {
	return object.Content{Size: int64(len(data)), SHA256: aws.Hash(string(data)), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
}

func read(c *Client, key, known string) (string, object.Info, error) {
	body, info, err := c.Get(context.Background(), key, known)
	if err != nil {
		return "", info, err
	}
	defer body.Close()
	raw, err := io.ReadAll(body)
	return string(raw), info, err
}

func TestObjects(t *testing.T) {
	t.Parallel()
	for _, unconditional := range []bool{false, true} {
		s := &fake.Server{Unconditional: unconditional}
		c := client(t, s, Options{})
		const key = "pre fix/blobs/sha256:0+1=2/ü&?#~.txt"
		if _, _, err := read(c, key, ""); !errors.Is(err, object.ErrNotFound) {
			t.Errorf("before: %v", err)
		}
		if _, err := c.Stat(t.Context(), key); !errors.Is(err, object.ErrNotFound) {
			t.Errorf("before: %v", err)
		}
		if err := c.Put(t.Context(), key, content([]byte("one")), object.Absent); err != nil {
			t.Fatal(err)
		}
		text, info, err := read(c, key, "")
		if err != nil || text != "one" || info.Size != 3 || info.Tag == "" || info.Modified.IsZero() {
			t.Errorf("%q, %+v, %v", text, info, err)
		}
		if _, _, err := read(c, key, info.Tag); !errors.Is(err, object.ErrUnchanged) {
			t.Errorf("unchanged: %v", err)
		}
		if err := c.Put(t.Context(), key, content([]byte("two")), object.Absent); !unconditional && !errors.Is(err, object.ErrChanged) {
			t.Errorf("put although it is there: %v", err)
		}
		if err := c.Put(t.Context(), key, content([]byte("two")), info.Tag); !unconditional && err != nil {
			t.Errorf("put over the old one: %v", err)
		}
		if err := c.Put(t.Context(), key, content([]byte("three")), info.Tag); !unconditional && !errors.Is(err, object.ErrChanged) {
			t.Errorf("put over another: %v", err)
		}
		if err := c.Put(t.Context(), "empty", content(nil), ""); err != nil {
			t.Error(err)
		}
		if text, _, err := read(c, "empty", ""); err != nil || text != "" {
			t.Errorf("empty: %q, %v", text, err)
		}
		s.Age(time.Hour)
		if err := c.Touch(t.Context(), key, info); err != nil || time.Since(s.Modified(key)) > time.Minute {
			t.Errorf("touched: %v, %v", s.Modified(key), err)
		}
		if text, _, err := read(c, key, info.Tag); err != nil || text != map[bool]string{false: "two", true: "three"}[unconditional] {
			t.Errorf("in the end: %q, %v", text, err)
		}
		if got := s.Keys(""); len(got) != 2 || got[1] != key {
			t.Errorf("keys %q", got)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]Options{
		"NoSuchBucket":                 {Bucket: "other"},
		"AuthorizationHeaderMalformed": {Region: "us-east-1"},
		"SignatureDoesNotMatch":        {Credentials: Credentials{ID: fake.User.ID, Secret: "wrong/secret"}},
		"InvalidToken":                 {Credentials: Credentials{ID: fake.Temporary.ID, Secret: fake.Temporary.Secret}},
		"InvalidAccessKeyId":           {Credentials: Credentials{ID: "nobody", Secret: "wrong/secret"}},
	} {
		_, _, err := read(client(t, &fake.Server{}, o), "key", "")
		if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, object.ErrNotFound) || strings.Contains(err.Error(), "wrong/secret") {
			t.Errorf("%v, want %s", err, want)
		}
	}
	damaged := content([]byte("one"))
	damaged.SHA256 = aws.Hash("two")
	if err := client(t, &fake.Server{}, Options{}).Put(t.Context(), "key", damaged, ""); err == nil || !strings.Contains(err.Error(), "XAmzContentSHA256Mismatch") {
		t.Errorf("damaged: %v", err)
	}
	broken, s := errors.New("broken"), &fake.Server{}
	damaged.Open = func() (io.ReadCloser, error) { return io.NopCloser(iotest.ErrReader(broken)), nil }
	if err := client(t, s, Options{}).Put(t.Context(), "key", damaged, ""); !errors.Is(err, broken) {
		t.Errorf("a body that cannot be read: %v", err)
	}
	region := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Amz-Bucket-Region", "eu-west-1")
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(http.StatusMovedPermanently)
	}))
	defer region.Close()
	c, err := New(Options{Bucket: "b", Region: "us-east-1", Endpoint: region.URL, Credentials: Credentials{ID: "a", Secret: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Stat(t.Context(), "key"); err == nil || err.Error() != `s3://b/key: the bucket is in the region "eu-west-1", not "us-east-1": set region` {
		t.Errorf("another region: %v", err)
	}
}

// TestRecovery checks that requests are sent again after temporary errors, and that
// interrupted downloads continue.
func TestRecovery(t *testing.T) {
	t.Parallel()
	s := &fake.Server{}
	c := client(t, s, Options{})
	data := bytes.Repeat([]byte("0123456789"), 1000)
	s.Fault = func(n int, r *http.Request) int {
		switch {
		case n == 1:
			return 503
		case r.Method == "GET" && n < 5:
			return 50
		}
		return 0
	}
	if err := c.Put(t.Context(), "key", content(data), ""); err != nil {
		t.Fatal(err)
	}
	if text, _, err := read(c, "key", ""); err != nil || text != string(data) {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if n := s.Requests(); n != 5 { // two to write, three to read
		t.Errorf("%d requests, want 5", n)
	}
	s.Fault = func(int, *http.Request) int { return 500 }
	c.Tries = 1
	before := s.Requests()
	if _, err := c.Stat(t.Context(), "key"); err == nil || s.Requests() != before+1 {
		t.Errorf("one try: %v, %d requests", err, s.Requests()-before)
	}
}

// TestSkew checks that the client follows a server whose clock is another.
func TestSkew(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{-time.Hour, time.Hour} {
		s := &fake.Server{Skew: skew}
		c := client(t, s, Options{})
		if err := c.Put(t.Context(), "key", content([]byte("x")), ""); err != nil {
			t.Error(err)
		}
		if _, _, err := read(c, "key", ""); err != nil || s.Requests() != 3 {
			t.Errorf("%v, %d requests", err, s.Requests())
		}
	}
}

// TestParts writes objects that are too large for one request. It changes the sizes for
// all tests, so it is not parallel.
func TestParts(t *testing.T) {
	old := []int64{largest, part, maxParts}
	largest, part, maxParts = 100, 30, 4
	defer func() { largest, part, maxParts = old[0], old[1], old[2] }()
	for _, size := range []int{100, 101, 120, 121, 1000} {
		s := &fake.Server{}
		c := client(t, s, Options{})
		data := bytes.Repeat([]byte("abcdefg"), size)[:size]
		s.Fault = func(n int, r *http.Request) int {
			if n == 3 { // the second part
				return 500
			}
			return 0
		}
		if err := c.Put(t.Context(), "key", content(data), ""); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
		if text, _, err := read(c, "key", ""); err != nil || text != string(data) || s.Uploads() != 0 {
			t.Errorf("%d bytes: %d bytes, %v, %d uploads", size, len(text), err, s.Uploads())
		}
	}
	s := &fake.Server{}
	c := client(t, s, Options{Tries: 1})
	s.Fault = func(_ int, r *http.Request) int {
		if r.URL.Query().Get("partNumber") == "2" {
			return 500
		}
		return 0
	}
	if err := c.Put(t.Context(), "key", content(make([]byte, 200)), ""); err == nil || s.Uploads() != 0 || len(s.Keys("")) != 0 {
		t.Errorf("a failed part: %v, %d uploads, objects %q", err, s.Uploads(), s.Keys(""))
	}
}

// TestCredentials finds credentials in each place.
func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	user := "aws_access_key_id = " + fake.User.ID + "\n# comment = 1\naws_secret_access_key=" + fake.User.Secret + "\n"
	at := start(t, &fake.Server{})
	for name, test := range map[string]struct {
		env  map[string]string
		want string // part of the error
	}{
		"environment": {env: map[string]string{"AWS_ACCESS_KEY_ID": fake.User.ID, "AWS_SECRET_ACCESS_KEY": fake.User.Secret}},
		"temporary key in the environment": {env: map[string]string{
			"AWS_ACCESS_KEY_ID": fake.Temporary.ID, "AWS_SECRET_ACCESS_KEY": fake.Temporary.Secret, "AWS_SESSION_TOKEN": fake.Temporary.Token}},
		"file":              {env: map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file("a", "[other]\naws_access_key_id=x\naws_secret_access_key=y\n[default]\n"+user)}},
		"profile":           {env: map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file("b", "[ci]\n"+user+"[default]\naws_access_key_id=x\naws_secret_access_key=y\n"), "AWS_PROFILE": "ci"}},
		"profile in config": {env: map[string]string{"AWS_CONFIG_FILE": file("c", "[profile default-ci]\n"+user), "AWS_PROFILE": "default-ci"}},
		"no such profile":   {env: map[string]string{"AWS_PROFILE": "ci"}, want: `AWS_PROFILE "ci" has no aws_access_key_id`},
		"web identity":      {env: map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": file("token", fake.Identity+"\n"), "AWS_ROLE_ARN": fake.Role, "AWS_ENDPOINT_URL_STS": at}},
		"other identity": {env: map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": file("other", "x"), "AWS_ROLE_ARN": fake.Role, "AWS_ENDPOINT_URL_STS": at},
			want: `AssumeRoleWithWebIdentity of arn:aws:iam::1:role/builder: status 400 InvalidIdentityToken: "no such identity"`},
		"no role":            {env: map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": file("third", "x")}, want: "but not AWS_ROLE_ARN"},
		"container":          {env: map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": at + "/container", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": file("d", fake.Container)}},
		"other container":    {env: map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": at + "/container", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "x"}, want: "credentials of the container: status 401"},
		"container far away": {env: map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://192.0.2.1/x"}, want: "192.0.2.1 is neither this machine nor reached over https"},
		"machine":            {env: map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": at + "/", "AWS_EC2_METADATA_DISABLED": ""}},
		"nowhere":            {want: "there are none: set access_key_id and secret_access_key, or set AWS_ACCESS_KEY_ID"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HOME", dir)
			t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			c, err := New(Options{Bucket: fake.Bucket, Region: fake.Region, Endpoint: at})
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Stat(t.Context(), "key")
			if test.want == "" && !errors.Is(err, object.ErrNotFound) || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	for _, name := range []string{"AWS_BUCKET", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"} {
		t.Setenv(name, "")
	}
	for want, o := range map[string]Options{
		`S3 needs a bucket, not "": set bucket or $AWS_BUCKET`:               {Region: "x"},
		`S3 needs a bucket, not "a/b": set bucket or $AWS_BUCKET`:            {Bucket: "a/b", Region: "x"},
		`S3 needs a region, not "": set region or $AWS_REGION`:               {Bucket: "b"},
		`S3 needs a region, not "x.evil.example": set region or $AWS_REGION`: {Bucket: "b", Region: "x.evil.example"},
		`S3 needs both access_key_id and secret_access_key, or neither`:      {Bucket: "b", Region: "x", Credentials: Credentials{ID: "a"}},
		`S3: endpoint_url "minio:9000" is not an http(s) URL`:                {Bucket: "b", Region: "x", Endpoint: "minio:9000"},
	} {
		if _, err := New(o); err == nil || err.Error() != want {
			t.Errorf("%+v: %v, want %s", o, err, want)
		}
	}
}
