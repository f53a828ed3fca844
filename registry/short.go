package registry

import (
	"context"
	"fmt"
	"strings"
)

// Candidates lists what a name as it was written may mean, in full: one, but for
// names without a registry where [Options].ShortNames and Rules have several asked.
func (c *Client) Candidates(name string) ([]string, error) {
	full, err := Normalize(name)
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
		if found[i], err = Normalize(f); err != nil {
			return nil, fmt.Errorf("what %s is short for: %w", name, err)
		}
	}
	return found, nil
}

// Full gives the reference in full of an image that is to be pulled. Of several
// candidates the first counts that a registry has.
func (c *Client) Full(ctx context.Context, name string) (string, error) {
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
	return "", fmt.Errorf("%s is in none of the registries that are searched: %s", name, strings.Join(errs, "; "))
}
