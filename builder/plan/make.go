package plan

import (
	"context"
	"errors"
)

// Make plans a build.
func Make(ctx context.Context, in Input) (*Plan, error) {
	return nil, errors.New("not yet")
}
