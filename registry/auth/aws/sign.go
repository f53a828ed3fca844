package aws

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Unsigned is the hash of a request's body that the signature does not cover.
const Unsigned = "UNSIGNED-PAYLOAD"

// Sign adds version 4 of AWS's signature to a request for a service: it covers the URL,
// the host, all x-amz headers, and the body with the hash payload. more are other
// headers to cover.
// Source: docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html.
func Sign(req *http.Request, c Credentials, region, service, payload string, at time.Time, more ...string) {
	stamp := at.UTC().Format("20060102T150405Z")
	req.Header.Set("X-Amz-Date", stamp)
	req.Header.Set("X-Amz-Content-Sha256", payload)
	if c.Token != "" {
		req.Header.Set("X-Amz-Security-Token", c.Token)
	}
	headers := map[string]string{"host": req.URL.Host}
	for name, values := range req.Header {
		name = strings.ToLower(name)
		if strings.HasPrefix(name, "x-amz-") || slices.Contains(more, name) {
			headers[name] = strings.TrimSpace(strings.Join(values, ","))
		}
	}
	names := slices.Sorted(maps.Keys(headers))
	var canonical strings.Builder
	canonical.WriteString(req.Method + "\n" + req.URL.EscapedPath() + "\n" + CanonicalQuery(req.URL.Query()) + "\n")
	for _, name := range names {
		canonical.WriteString(name + ":" + headers[name] + "\n")
	}
	signed := strings.Join(names, ";")
	canonical.WriteString("\n" + signed + "\n" + payload)

	scope := stamp[:8] + "/" + region + "/" + service + "/aws4_request"
	text := "AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + Hash(canonical.String())
	key := []byte("AWS4" + c.Secret)
	for _, part := range []string{stamp[:8], region, service, "aws4_request", text} {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(part))
		key = m.Sum(nil)
	}
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+c.ID+"/"+scope+",SignedHeaders="+signed+",Signature="+hex.EncodeToString(key))
}

// Hash returns the hash of a request's body in hexadecimal.
func Hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// CanonicalQuery returns parameters in the form that is signed, and in which they must
// be sent.
func CanonicalQuery(q url.Values) string {
	var parts []string
	for name, values := range q {
		for _, value := range values {
			parts = append(parts, Escape(name, false)+"="+Escape(value, false))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, "&")
}

// Escape escapes all bytes but letters, digits, -, ., _ and ~, and / in a path.
func Escape(s string, path bool) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~", c) >= 0, c == '/' && path:
			b.WriteByte(c)
		default:
			b.WriteString("%" + string(digits[c>>4]) + string(digits[c&15]))
		}
	}
	return b.String()
}
