package registry

import "errors"

// What went wrong, for errors.Is.
var (
	ErrNotFound     = errors.New("not found")
	ErrUnauthorized = errors.New("not authorized")
	ErrUnreachable  = errors.New("registry cannot be reached")
)
