// Package serve is an image registry on a directory: the OCI distribution
// specification as an http.Handler.
package serve

import (
	"errors"
	"net/http"
)

// Options of a registry; the zero value is usual.
type Options struct {
	ReadOnly bool
	// Auth, when set, is asked for every request; user is empty when no credentials were sent.
	Auth func(user, password string, write bool) bool
}

// Handler serves the registry in dir, which is made when missing.
func Handler(dir string, o Options) (http.Handler, error) { return nil, errors.ErrUnsupported }
