// Package exchange sends the small requests with which credentials are exchanged: to
// token services, and to the metadata services of machines.
package exchange

import (
	"errors"
	"io"
	"net/http"
	"net/url"
)

// maxAnswer is the number of bytes that are read of a response.
const maxAnswer = 64 << 10

// Do sends a request and returns the body of the response and its status. Errors do not
// contain the URL, which may have a secret.
func Do(client *http.Client, req *http.Request) (body []byte, status int, err error) {
	resp, err := client.Do(req)
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return body, resp.StatusCode, err
}
