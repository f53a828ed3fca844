package worker

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer"
)

// ExplainPlatform adds a remedy to the error of a command that could not be started
// because it is for another platform than this machine's. p is the platform of its image.
func ExplainPlatform(err error, p layer.Platform) error {
	host := layer.HostPlatform()
	if !errors.Is(err, unix.ENOEXEC) || p.OS == "" || p.OS == host.OS && p.Architecture == host.Architecture {
		return err
	}
	return fmt.Errorf("%w: it is for %s, and this machine is %s: register an emulator in binfmt_misc (Debian's package qemu-user-static does), or build it in a stage FROM --platform=$BUILDPLATFORM", err, p, host)
}
