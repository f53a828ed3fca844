package azblob

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// sign signs a request with the key of an account.
// Source: learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key.
func sign(req *http.Request, account string, key []byte) {
	length := ""
	if req.ContentLength > 0 {
		length = strconv.FormatInt(req.ContentLength, 10)
	}
	text := req.Method + "\n" +
		"\n\n" + // Content-Encoding, Content-Language
		length + "\n" +
		"\n" + // Content-MD5
		req.Header.Get("Content-Type") + "\n" +
		"\n\n" + // Date, If-Modified-Since
		req.Header.Get("If-Match") + "\n" +
		req.Header.Get("If-None-Match") + "\n" +
		"\n\n" // If-Unmodified-Since, Range
	headers := map[string]string{}
	for name, values := range req.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-ms-") {
			headers[name] = strings.Join(values, ",")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		text += name + ":" + headers[name] + "\n"
	}
	text += "/" + account + req.URL.EscapedPath()
	query := req.URL.Query()
	for _, name := range slices.Sorted(maps.Keys(query)) {
		values := slices.Sorted(slices.Values(query[name]))
		text += "\n" + strings.ToLower(name) + ":" + strings.Join(values, ",")
	}
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	req.Header.Set("Authorization", "SharedKey "+account+":"+base64.StdEncoding.EncodeToString(m.Sum(nil)))
}
