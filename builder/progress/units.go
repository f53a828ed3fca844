package progress

import (
	"fmt"
	"strconv"
	"time"
)

// size formats a number of bytes in decimal units, as BuildKit does.
func size(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	f, i := float64(n), 0
	for f >= 1000 && i < len(units)-1 {
		f /= 1000
		i++
	}
	if i == 0 {
		return strconv.FormatInt(n, 10) + "B"
	}
	return strconv.FormatFloat(f, 'f', 2, 64) + units[i]
}

// rate formats a speed, as in " 1.23MB/s", or returns "" for 0 bytes.
func rate(n int64, took time.Duration) string {
	if n <= 0 {
		return ""
	}
	return " " + size(int64(float64(n)/took.Seconds())) + "/s"
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

// clock formats a duration, with tenths of a second if it is short.
func clock(d time.Duration) string {
	switch {
	case d < 100*time.Second:
		return seconds(d)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}
