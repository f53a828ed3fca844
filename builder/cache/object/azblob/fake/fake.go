// Package fake is a server of Azure Blob Storage for tests. It verifies the signature of
// every request with the account's key as Microsoft's documentation describes it, without
// the code of the client. The same server hands out access tokens.
package fake

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
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

// The only account, which is in the path, with its key, its shared access signature, and
// the only container.
const (
	Account   = "builder"
	Key       = "c2VjcmV0IG9mIHRoZSBhY2NvdW50"
	Signature = "sv=2021-12-02&sig=a%2Bb%3D"
	Container = "buildkit-cache"
)

// Token is the access token that the server hands out for the identity of a pod, for a
// secret and to the machine.
const (
	Token    = "access-token"
	Identity = "identity-token"
	Secret   = "client-secret"
)

// Server is a server. The zero value is ready.
type Server struct {
	// Fault, if set, returns a status for request n, counted from 1; 0 is no fault.
	Fault func(n int, r *http.Request) int

	mu        sync.Mutex
	requests  int
	container bool
	blobs     map[string]blob
	blocks    map[string][]byte
}

type blob struct {
	data     []byte
	tag      string
	modified time.Time
}

// Keys returns the keys of all blobs, sorted.
func (s *Server) Keys() (keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.blobs {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// Age sets the time of all blobs back.
func (s *Server) Age(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, b := range s.blobs {
		b.modified = b.modified.Add(-by)
		s.blobs[key] = b
	}
}

// Modified returns the time of a blob.
func (s *Server) Modified(key string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blobs[key].modified
}

func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Set("X-Ms-Error-Code", code)
	w.WriteHeader(status)
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	if s.Fault != nil {
		if status := s.Fault(s.requests, r); status > 0 {
			fail(w, status, "ServerBusy")
			return
		}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		fail(w, 400, "InvalidInput")
		return
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/oauth2/v2.0/token"), strings.HasPrefix(r.URL.Path, "/metadata/"):
		token(w, r, string(body))
		return
	case !allowed(r):
		fail(w, 403, "AuthenticationFailed")
		return
	case r.Header.Get("X-Ms-Version") == "":
		fail(w, 400, "MissingRequiredHeader")
		return
	}
	key, ok := strings.CutPrefix(r.URL.Path, "/"+Account+"/"+Container)
	key = strings.TrimPrefix(key, "/")
	switch {
	case !ok:
		fail(w, 404, "ResourceNotFound")
	case key == "" && r.Method == "PUT" && r.URL.Query().Get("restype") == "container":
		if s.container {
			fail(w, 409, "ContainerAlreadyExists")
			return
		}
		s.container, s.blobs, s.blocks = true, map[string]blob{}, map[string][]byte{}
		w.WriteHeader(201)
	case !s.container:
		fail(w, 404, "ContainerNotFound")
	case r.Method == "PUT":
		s.put(w, r, key, body)
	default:
		b, ok := s.blobs[key]
		if !ok {
			fail(w, 404, "BlobNotFound")
			return
		}
		w.Header().Set("ETag", b.tag)
		if v := r.Header.Get("X-Ms-Range"); v != "" {
			r.Header.Set("Range", v)
		}
		http.ServeContent(w, r, "", b.modified, bytes.NewReader(b.data))
	}
}

func (s *Server) put(w http.ResponseWriter, r *http.Request, key string, body []byte) {
	b, ok := s.blobs[key]
	match := r.Header.Get("If-Match")
	q := r.URL.Query()
	switch comp := q.Get("comp"); {
	case comp == "block":
		s.blocks[key+q.Get("blockid")] = body
	case comp == "metadata":
		b.modified = time.Now()
		s.blobs[key] = b
		w.WriteHeader(200)
		return
	case r.Header.Get("If-None-Match") == "*" && ok:
		fail(w, 409, "BlobAlreadyExists")
		return
	case match != "" && match != b.tag:
		fail(w, 412, "ConditionNotMet")
		return
	case comp == "blocklist":
		var list struct{ Latest []string }
		if err := xml.Unmarshal(body, &list); err != nil {
			fail(w, 400, "InvalidXmlDocument")
			return
		}
		var data []byte
		for _, id := range list.Latest {
			data = append(data, s.blocks[key+id]...)
		}
		s.set(key, data)
	case r.Header.Get("X-Ms-Blob-Type") == "BlockBlob":
		s.set(key, body)
	default:
		fail(w, 400, "MissingRequiredHeader")
		return
	}
	w.WriteHeader(201)
}

func (s *Server) set(key string, data []byte) {
	s.blobs[key] = blob{data, fmt.Sprintf("\"0x%d\"", s.requests), time.Now()}
}

// token hands out a token.
func token(w http.ResponseWriter, r *http.Request, body string) {
	form, _ := url.ParseQuery(body)
	q := r.URL.Query()
	pod := form.Get("client_assertion") == Identity && form.Get("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	ok := r.URL.Path == "/tenant/oauth2/v2.0/token" && r.Method == "POST" && form.Get("grant_type") == "client_credentials" &&
		form.Get("scope") == "https://storage.azure.com/.default" && form.Get("client_id") == "client" && (pod || form.Get("client_secret") == Secret)
	ok = ok || r.URL.Path == "/metadata/identity/oauth2/token" && r.Header.Get("Metadata") == "true" &&
		q.Get("resource") == "https://storage.azure.com/" && q.Get("api-version") != ""
	if !ok {
		w.WriteHeader(400)
		fmt.Fprint(w, `{"error":"invalid_client"}`)
		return
	}
	fmt.Fprintf(w, `{"access_token":%q,"expires_in":"3600"}`, Token)
}

// allowed reports whether a request has a valid signature or token.
func allowed(r *http.Request) bool {
	authorization := r.Header.Get("Authorization")
	if authorization == "" {
		return strings.Contains(r.URL.RawQuery, "sig=a%2Bb%3D")
	}
	if authorization == "Bearer "+Token {
		return true
	}
	length := ""
	if r.ContentLength > 0 {
		length = strconv.FormatInt(r.ContentLength, 10)
	}
	text := []string{r.Method}
	for _, name := range []string{"Content-Encoding", "Content-Language", "", "Content-MD5", "Content-Type", "Date", "If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range"} {
		if name == "" {
			text = append(text, length)
			continue
		}
		text = append(text, r.Header.Get(name))
	}
	var own []string
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Ms-") {
			own = append(own, strings.ToLower(name)+":"+r.Header.Get(name))
		}
	}
	slices.Sort(own)
	path, _, _ := strings.Cut(r.RequestURI, "?")
	resource := "/" + Account + path
	var parameters []string
	for name, values := range r.URL.Query() {
		parameters = append(parameters, strings.ToLower(name)+":"+strings.Join(values, ","))
	}
	slices.Sort(parameters)
	text = append(append(append(text, own...), resource), parameters...)
	key, err := base64.StdEncoding.DecodeString(Key)
	if err != nil {
		return false
	}
	m := hmac.New(sha256.New, key)
	m.Write([]byte(strings.Join(text, "\n")))
	return authorization == "SharedKey "+Account+":"+base64.StdEncoding.EncodeToString(m.Sum(nil))
}
