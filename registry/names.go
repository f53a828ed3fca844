package registry

import (
	"context"
	"fmt"
	"strings"

	"github.com/cairn-build/cairn/registry/reference"
)

// Candidates returns the normalized references that a name may stand for. There
// are several only for a name without a registry, if [Options].ShortNames is set
// and Rules have several registries to search.
func (c *Client) Candidates(name string) ([]string, error) {
	full, err := reference.Normalize(name)
	if err != nil || c == nil || !c.o.ShortNames {
		return []string{full}, err
	}
	found, err := c.o.Rules.Short(name)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return []string{full}, nil
	}
	for i, f := range found {
		if found[i], err = reference.Normalize(f); err != nil {
			return nil, fmt.Errorf("alias of short name %s: %w", name, err)
		}
	}
	return found, nil
}

// ResolveName returns the normalized reference of an image to pull. Of several
// candidates it returns the first that a registry has.
func (c *Client) ResolveName(ctx context.Context, name string) (string, error) {
	found, err := c.Candidates(name)
	if err != nil {
		return "", err
	}
	if len(found) == 1 {
		return found[0], nil
	}
	var errs []string
	for _, full := range found {
		_, err := c.ResolveDigest(ctx, full)
		if err == nil {
			return full, nil
		}
		errs = append(errs, err.Error())
	}
	return "", fmt.Errorf("%s not found in the unqualified-search-registries: %s", name, strings.Join(errs, "; "))
}
