package harness

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// clock moves the wall clock of a process, and of no other. A Go program on Linux asks the
// vDSO for the time, machine code that the kernel maps into each process: ours replaces the
// function there by one that asks the kernel and adds a number to what it says of the wall
// clock. Libraries that do so by LD_PRELOAD have no hold on a program without libc.
type clock struct {
	memory string // path of the process's memory
	offset int64  // address of the number, in seconds
}

// gettime is the function: its arguments are a clock in edi and where to put the time in rsi.
var gettime = []byte{
	0xb8, 0xe4, 0x00, 0x00, 0x00, //  mov eax, 228 (clock_gettime)
	0x0f, 0x05, //                    syscall
	0x85, 0xff, //                    test edi, edi (CLOCK_REALTIME is 0)
	0x75, 0x0a, //                    jnz over the next two
	0x48, 0x8b, 0x15, 0x06, 0, 0, 0, // mov rdx, [offset]
	0x48, 0x01, 0x16, //              add [rsi], rdx
	0xc3,       //                    ret
	0x90, 0x90, //                    the offset is aligned
	0, 0, 0, 0, 0, 0, 0, 0, //        offset
}

const gettimeOffset = 24 // in the function

// startWithMovableClock starts a command, stopped before its first instruction until its
// vDSO is changed.
func startWithMovableClock(cmd *exec.Cmd) (*clock, error) {
	runtime.LockOSThread() // the tracer of a process is a thread
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	pid := cmd.Process.Pid
	c, err := newClock(pid)
	if err == nil {
		err = syscall.PtraceDetach(pid)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, fmt.Errorf("make its clock movable: %w", err)
	}
	return c, nil
}

// newClock requires a traced process that is about to stop.
func newClock(pid int) (*clock, error) {
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
		return nil, err
	}
	if !status.Stopped() {
		return nil, fmt.Errorf("the process has not stopped: %v", status)
	}
	from, to, err := vdso(pid)
	if err != nil {
		return nil, err
	}
	c := &clock{memory: fmt.Sprintf("/proc/%d/mem", pid)}
	memory, err := os.OpenFile(c.memory, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	image := make([]byte, to-from)
	if _, err := memory.ReadAt(image, from); err != nil {
		return nil, err
	}
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return nil, err
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return nil, err
	}
	for _, s := range symbols {
		if s.Name != "__vdso_clock_gettime" {
			continue
		}
		at := from + int64(s.Value)
		if int(s.Size) < len(gettime) || at%8 != 0 {
			return nil, fmt.Errorf("no room for another clock_gettime in %d bytes at %#x", s.Size, at)
		}
		c.offset = at + gettimeOffset
		_, err := memory.WriteAt(gettime, at)
		return c, err
	}
	return nil, errors.New("the vDSO has no clock_gettime")
}

// vdso returns where the kernel has mapped it.
func vdso(pid int) (from, to int64, err error) {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, err
	}
	defer maps.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		if strings.HasSuffix(lines.Text(), "[vdso]") {
			_, err := fmt.Sscanf(lines.Text(), "%x-%x", &from, &to)
			return from, to, err
		}
	}
	return 0, 0, errors.Join(errors.New("the process has no vDSO"), lines.Err())
}

func (c *clock) move(from time.Duration) error {
	if c == nil {
		return errors.New("it was started without MovableClock")
	}
	memory, err := os.OpenFile(c.memory, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer memory.Close()
	var number [8]byte
	binary.LittleEndian.PutUint64(number[:], uint64(from/time.Second))
	_, err = memory.WriteAt(number[:], c.offset)
	return err
}
