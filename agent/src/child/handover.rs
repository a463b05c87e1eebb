//! Handing work to a child: a request, then open files one by one, over one socket.

use std::fs::File;
use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Read, Result, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A request, at most.
const REQUEST_BYTES_MAX: u32 = 4 << 20;

/// The byte that comes with a file.
const FILE: u8 = b'F';

/// Sends the request that a child starts with: its length, then JSON.
pub fn send_request(mut socket: &UnixStream, request: &impl Serialize) -> Result<()> {
    let json = serde_json::to_vec(request)?;
    let length = u32::try_from(json.len())
        .ok()
        .filter(|length| *length <= REQUEST_BYTES_MAX);
    let length = length.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the request is too long"))?;
    socket.write_all(&length.to_be_bytes())?;
    socket.write_all(&json)
}

/// Receives the request.
pub fn receive_request<T: DeserializeOwned>(mut socket: &UnixStream) -> Result<T> {
    let mut length = [0u8; 4];
    socket.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > REQUEST_BYTES_MAX {
        return Err(Error::new(ErrorKind::InvalidData, "the request is too long"));
    }
    let mut json = vec![0u8; length as usize];
    socket.read_exact(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

/// Hands an open file over.
pub fn send_file(socket: &UnixStream, file: &File) -> Result<()> {
    let files: [BorrowedFd<'_>; 1] = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(Error::other("a file does not fit a message"));
    }
    sendmsg(
        socket,
        &[IoSlice::new(&[FILE])],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives the next file. None: there are no more.
pub fn receive_file(socket: &UnixStream) -> Result<Option<File>> {
    let mut byte = [0u8; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.bytes == 0 {
        return Ok(None);
    }
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut files) = message
            && let Some(file) = files.next()
        {
            return Ok(Some(File::from(file)));
        }
    }
    Err(Error::new(ErrorKind::InvalidData, "a message without a file"))
}
