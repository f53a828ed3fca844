// Package fake is an S3 server for tests. It verifies the signature of every request as
// Amazon's documentation describes it, without the code of the client. The same server
// is AWS's services that hand out temporary credentials: STS, the metadata service of a
// machine, and that of a container.
package fake

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The only bucket, and its region.
const (
	Bucket = "caches"
	Region = "eu-test-1"
)

// Key is an access key.
type Key struct{ ID, Secret, Token string }

// Keys that the server accepts: one of a user, and one that its other services hand out.
var (
	User      = Key{"AKUSER", "user/secret", ""}
	Temporary = Key{"ASTEMPORARY", "temporary/secret", "session/token=="}
)

// STS exchanges Role and Identity for the temporary key; Machine is the token
// of a machine's metadata service, and Container that of a container's.
const (
	Role      = "arn:aws:iam::1:role/builder"
	Identity  = "identity-token"
	Machine   = "machine-token"
	Container = "container-token"
)

// Server is an S3 server. The zero value is ready.
type Server struct {
	// Fault, if set, returns a status for request n, counted from 1. The server responds
	// with it or, if it is below 100, cuts its response after so many bytes; 0 is no
	// fault.
	Fault func(n int, r *http.Request) int
	// Unconditional makes the server refuse conditional writes.
	Unconditional bool
	// Skew is added to the server's clock.
	Skew time.Duration

	mu       sync.Mutex
	requests int
	objects  map[string]object
	uploads  map[string]map[int][]byte
	issued   int // temporary credentials
}

type object struct {
	data     []byte
	tag      string
	modified time.Time
}

// Keys returns the keys of all objects that begin with a prefix, sorted.
func (s *Server) Keys(prefix string) (keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.objects {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// Requests returns the number of requests.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// Issued returns how often temporary credentials were handed out.
func (s *Server) Issued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.issued
}

// Uploads returns the number of multipart uploads that have not ended.
func (s *Server) Uploads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.uploads)
}

// Age sets the time of all objects back.
func (s *Server) Age(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, o := range s.objects {
		o.modified = o.modified.Add(-by)
		s.objects[key] = o
	}
}

// Modified returns the time of an object.
func (s *Server) Modified(key string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[key].modified
}

// Drop removes the objects whose keys begin with a prefix.
func (s *Server) Drop(prefix string) {
	for _, key := range s.Keys(prefix) {
		s.mu.Lock()
		delete(s.objects, key)
		s.mu.Unlock()
	}
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests++
	n := s.requests
	s.mu.Unlock()
	if s.Fault != nil {
		switch status := s.Fault(n, r); {
		case status >= 100:
			fail(w, status, "InternalError")
			return
		case status > 0:
			w = &cut{ResponseWriter: w, left: status}
		}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		fail(w, 400, "IncompleteBody")
		return
	}
	if s.issue(w, r, body) {
		return
	}
	now := time.Now().Add(s.Skew)
	w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
	if status, code := verify(r, body, now); code != "" {
		fail(w, status, code)
		return
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if bucket != Bucket {
		fail(w, 404, "NoSuchBucket")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects == nil {
		s.objects, s.uploads = map[string]object{}, map[string]map[int][]byte{}
	}
	switch {
	case r.URL.Query().Has("uploads"), r.URL.Query().Has("uploadId"):
		s.multipart(w, r, key, body)
	case r.Method == "PUT":
		s.put(w, r, key, body)
	case r.Method == "GET", r.Method == "HEAD":
		s.get(w, r, key)
	default:
		fail(w, 405, "MethodNotAllowed")
	}
}

func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\"?>\n<Error><Code>%s</Code><Message>it is %s</Message></Error>", code, code)
}

func (s *Server) set(key string, data []byte) object {
	sum := md5.Sum(data)
	s.objects[key] = object{data, `"` + hex.EncodeToString(sum[:]) + `"`, time.Now()}
	return s.objects[key]
}

func (s *Server) put(w http.ResponseWriter, r *http.Request, key string, data []byte) {
	if from := r.Header.Get("X-Amz-Copy-Source"); from != "" {
		path, err := url.PathUnescape(strings.TrimPrefix(from, "/"))
		o, ok := s.objects[strings.TrimPrefix(path, Bucket+"/")]
		if err != nil || !ok {
			fail(w, 404, "NoSuchKey")
			return
		}
		s.set(key, o.data)
		fmt.Fprint(w, "<CopyObjectResult></CopyObjectResult>")
		return
	}
	absent, match := r.Header.Get("If-None-Match"), r.Header.Get("If-Match")
	if s.Unconditional && absent+match != "" {
		fail(w, 501, "NotImplemented")
		return
	}
	o, ok := s.objects[key]
	if absent == "*" && ok || match != "" && match != o.tag {
		fail(w, 412, "PreconditionFailed")
		return
	}
	w.Header().Set("ETag", s.set(key, data).tag)
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, key string) {
	o, ok := s.objects[key]
	if !ok {
		fail(w, 404, "NoSuchKey")
		return
	}
	w.Header().Set("ETag", o.tag)
	http.ServeContent(w, r, "", o.modified, bytes.NewReader(o.data))
}

func (s *Server) multipart(w http.ResponseWriter, r *http.Request, key string, body []byte) {
	q := r.URL.Query()
	id := q.Get("uploadId")
	parts, ok := s.uploads[id]
	switch {
	case r.Method == "POST" && q.Has("uploads"):
		id = fmt.Sprint("upload+", len(s.uploads))
		s.uploads[id] = map[int][]byte{}
		fmt.Fprintf(w, "<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>", id)
	case !ok:
		fail(w, 404, "NoSuchUpload")
	case r.Method == "DELETE":
		delete(s.uploads, id)
		w.WriteHeader(204)
	case r.Method == "PUT":
		n, _ := strconv.Atoi(q.Get("partNumber"))
		parts[n] = body
		w.Header().Set("ETag", fmt.Sprintf("\"part %d\"", n))
	case r.Method == "POST":
		var list struct {
			Part []struct {
				PartNumber int
				ETag       string
			}
		}
		if err := xml.Unmarshal(body, &list); err != nil {
			fail(w, 400, "MalformedXML")
			return
		}
		var data []byte
		for i, p := range list.Part {
			if p.PartNumber != i+1 || p.ETag != fmt.Sprintf("\"part %d\"", p.PartNumber) {
				fail(w, 200, "InvalidPart") // as Amazon's server, which has responded by then
				return
			}
			data = append(data, parts[p.PartNumber]...)
		}
		s.set(key, data)
		delete(s.uploads, id)
		fmt.Fprint(w, "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")
	}
}

// cut is a response that ends after some bytes of its body.
type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(b []byte) (int, error) {
	if len(b) > c.left {
		_, _ = c.ResponseWriter.Write(b[:c.left])
		panic(http.ErrAbortHandler)
	}
	c.left -= len(b)
	return c.ResponseWriter.Write(b)
}

// issue answers requests for temporary credentials, and reports whether this is one.
func (s *Server) issue(w http.ResponseWriter, r *http.Request, body []byte) bool {
	until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	role, err := json.Marshal(map[string]string{
		"Code": "Success", "AccessKeyId": Temporary.ID, "SecretAccessKey": Temporary.Secret, "Token": Temporary.Token, "Expiration": until,
	})
	if err != nil {
		return false
	}
	const roles = "/latest/meta-data/iam/security-credentials/"
	is := func(method, path string) bool { return r.Method == method && r.URL.Path == path }
	switch {
	case is("POST", "/") && r.Header.Get("Content-Type") == "application/x-www-form-urlencoded":
		form, _ := url.ParseQuery(string(body))
		if form.Get("Action") != "AssumeRoleWithWebIdentity" || form.Get("Version") != "2011-06-15" || form.Get("RoleArn") != Role ||
			form.Get("RoleSessionName") == "" || form.Get("WebIdentityToken") != Identity {
			w.WriteHeader(400)
			fmt.Fprint(w, "<ErrorResponse><Error><Code>InvalidIdentityToken</Code><Message>no such identity</Message></Error></ErrorResponse>")
			return true
		}
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>
<AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken><Expiration>%s</Expiration>
</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, Temporary.ID, Temporary.Secret, Temporary.Token, until)
	case is("PUT", "/latest/api/token"):
		if r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds") == "" {
			w.WriteHeader(400)
			return true
		}
		fmt.Fprint(w, Machine)
		return true
	case is("GET", roles), is("GET", roles+"builder"):
		if r.Header.Get("X-Aws-Ec2-Metadata-Token") != Machine {
			w.WriteHeader(401)
			return true
		}
		if r.URL.Path == roles {
			fmt.Fprint(w, "builder")
			return true
		}
		_, _ = w.Write(role)
	case is("GET", "/container"):
		if r.Header.Get("Authorization") != Container {
			w.WriteHeader(401)
			return true
		}
		_, _ = w.Write(role)
	default:
		return false
	}
	s.mu.Lock()
	s.issued++
	s.mu.Unlock()
	return true
}

// verify checks the signature of a request. It returns the status and code of an error.
func verify(r *http.Request, body []byte, now time.Time) (int, string) {
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	fields := map[string]string{}
	for field := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		fields[name] = value
	}
	credential := strings.Split(fields["Credential"], "/")
	if scheme != "AWS4-HMAC-SHA256" || len(credential) != 5 {
		return 403, "AccessDenied"
	}
	var key Key
	for _, k := range []Key{User, Temporary} {
		if k.ID == credential[0] {
			key = k
		}
	}
	date := r.Header.Get("X-Amz-Date")
	at, err := time.Parse("20060102T150405Z", date)
	switch {
	case key.ID == "":
		return 403, "InvalidAccessKeyId"
	case key.Token != r.Header.Get("X-Amz-Security-Token"):
		return 400, "InvalidToken"
	case err != nil || credential[1] != date[:8] || credential[2] != Region || credential[3] != "s3" || credential[4] != "aws4_request":
		return 400, "AuthorizationHeaderMalformed"
	case now.Sub(at).Abs() > 15*time.Minute:
		return 403, "RequestTimeTooSkewed"
	}
	sum := sha256.Sum256(body)
	payload := r.Header.Get("X-Amz-Content-Sha256")
	if payload != "UNSIGNED-PAYLOAD" && payload != hex.EncodeToString(sum[:]) {
		return 400, "XAmzContentSHA256Mismatch"
	}
	path, query, _ := strings.Cut(r.RequestURI, "?")
	parameters := strings.Split(query, "&")
	slices.Sort(parameters)
	signed := strings.Split(fields["SignedHeaders"], ";")
	canonical := r.Method + "\n" + path + "\n" + strings.Join(parameters, "&") + "\n"
	for _, name := range signed {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		canonical += name + ":" + value + "\n"
	}
	canonical += "\n" + fields["SignedHeaders"] + "\n" + payload
	for name := range r.Header { // all of these have to be signed
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") && !slices.Contains(signed, name) {
			return 403, "AccessDenied"
		}
	}
	of := sha256.Sum256([]byte(canonical))
	toSign := "AWS4-HMAC-SHA256\n" + date + "\n" + strings.Join(credential[1:], "/") + "\n" + hex.EncodeToString(of[:])
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	derived := mac(mac(mac(mac([]byte("AWS4"+key.Secret), credential[1]), credential[2]), "s3"), "aws4_request")
	if !slices.Contains(signed, "host") || fields["Signature"] != hex.EncodeToString(mac(derived, toSign)) {
		return 403, "SignatureDoesNotMatch"
	}
	return 0, ""
}
