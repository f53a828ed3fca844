package step

// Device is a character device in /dev.
type Device struct {
	Name         string
	Major, Minor uint32
}

// Devices returns the usual devices of a step.
func Devices() []Device {
	return []Device{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}}
}

// InsecureDevices returns the additional character devices of an insecure step, which
// are those of BuildKit.
func InsecureDevices() []Device {
	return []Device{{"kmsg", 1, 11}, {"cuse", 10, 203}, {"fuse", 10, 229}, {"kvm", 10, 232}, {"net/tun", 10, 200}, {"loop-control", 10, 237}}
}
