package registry

import "slices"

// pullScope returns the token scopes for pulling from a repository.
func pullScope(repo string) []string { return []string{"repository:" + repo + ":pull"} }

// pushScope returns the token scopes for pushing to a repository and mounting
// blobs from others.
func pushScope(repo string, from ...string) []string {
	scopes := []string{"repository:" + repo + ":pull,push"}
	for _, f := range from {
		if f != repo && !slices.Contains(scopes, f) {
			scopes = append(scopes, pullScope(f)...)
		}
	}
	return scopes
}
