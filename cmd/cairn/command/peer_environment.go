package command

import (
	"os"
	"strconv"

	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/layer"
)

// platformVariable is the variable with the platforms that docker and buildx use where
// there is no --platform.
const platformVariable = "DOCKER_DEFAULT_PLATFORM"

// setDefaultPlatforms sets the platforms of the environment if there are none yet.
func setDefaultPlatforms(to *[]layer.Platform) (err error) {
	text := os.Getenv(platformVariable)
	if len(*to) > 0 || text == "" {
		return nil
	}
	if *to, err = option.AddPlatforms(nil, text); err != nil {
		return usagef("$%s %q: %w", platformVariable, text, err)
	}
	return nil
}

// setDefaultPlatform sets the single platform of the environment if there is none yet.
func setDefaultPlatform(to *layer.Platform) (err error) {
	text := os.Getenv(platformVariable)
	if to.OS != "" || text == "" {
		return nil
	}
	if *to, err = option.ParsePlatform(text); err != nil {
		return usagef("$%s %q: %w", platformVariable, text, err)
	}
	return nil
}

// checkContentTrust returns an error if the environment requires docker's signatures.
func checkContentTrust() error {
	const name = "DOCKER_CONTENT_TRUST"
	if on, err := strconv.ParseBool(os.Getenv(name)); err == nil && on {
		return usagef("$%s is set, and cairn can't verify or make the signatures of Docker Content Trust: unset it, or name images by digest", name)
	}
	return nil
}

// checkBuildVariables returns an error for a variable of buildx that restricts the build
// in a way that cairn does not support, and notices for variables that would add
// something to the image.
func checkBuildVariables() (notices []string, err error) {
	const policy = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY"
	if file := os.Getenv(policy); file != "" {
		return nil, usagef("$%s %q: cairn does not evaluate source policies, and would use sources that the policy denies: unset it", policy, file)
	}
	const labels = "BUILDX_GIT_LABELS"
	text := os.Getenv(labels)
	if on, err := strconv.ParseBool(text); on && err == nil || text == "full" {
		notices = append(notices, "$"+labels+" has no effect: cairn adds no labels of the git repository; use --label org.opencontainers.image.revision=COMMIT")
	}
	return notices, nil
}
