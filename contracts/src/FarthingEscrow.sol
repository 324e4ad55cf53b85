// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// What the escrow asks of a token (ERC-20, TIP-20).
interface IToken {
    function balanceOf(address account) external view returns (uint256);
    function transfer(address to, uint256 amount) external returns (bool);
    function transferFrom(address from, address to, uint256 amount) external returns (bool);
}

/// What the escrow asks of a token whose holders can sign for a transfer (EIP-3009). Only the receiver can
/// carry it out, so that nobody takes the money past the channel that it is for.
interface IAuthorizedToken {
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;
}

/// How a contract account says that a signature is its own (ERC-1271).
interface IContractSigner {
    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4);
}

/// How a chain checks the signatures of other curves and of passkeys (TIP-1020).
interface ISignatureVerifier {
    function verify(address signer, bytes32 digest, bytes calldata signature) external view returns (bool);
}

/// Payment channels in one token each: a payer's deposit, out of which a payee is paid what the payer
/// has signed for (draft-tempo-session-00 in its version 1, draft-evm-session-00 with openings and top-ups by
/// EIP-3009).
///
/// A payer opens a channel with a deposit and then signs vouchers off the chain, each for the sum of
/// everything owed so far. The payee turns the latest voucher into money with `settle`, or `close`, which
/// gives the payer the rest. A payer whose payee stays away asks for the rest with `requestClose` and
/// takes it with `withdraw` once the payee has had its time.
///
/// What holds in every channel, always: settled <= deposit; what left the contract for it is what was
/// settled, and at the end deposit - settled to the payer; a record is never deleted, so that no id and no
/// voucher comes alive twice. There is no owner, no fee, no upgrade and nothing to pause.
contract FarthingEscrow {
    /// A channel, laid out as the clients of the first escrow on Tempo read it.
    struct Channel {
        bool finalized;
        /// When the payer asked for the rest, in seconds since 1970; 0 if it did not.
        uint64 closeRequestedAt;
        address payer;
        address payee;
        address token;
        /// Who signs vouchers; 0 means the payer.
        address authorizedSigner;
        uint128 deposit;
        uint128 settled;
    }

    event ChannelOpened(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        address token,
        address authorizedSigner,
        uint256 deposit
    );
    event Settled(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        uint256 cumulativeAmount,
        uint256 deltaPaid,
        uint256 newSettled
    );
    event CloseRequested(
        bytes32 indexed channelId, address indexed payer, address indexed payee, uint256 closeGraceEnd
    );
    event CloseRequestCancelled(bytes32 indexed channelId, address indexed payer, address indexed payee);
    event TopUp(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        uint256 additionalDeposit,
        uint256 newDeposit
    );
    event ChannelClosed(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        uint256 settledToPayee,
        uint256 refundedToPayer
    );

    error ChannelAlreadyExists();
    error ChannelNotFound();
    error ChannelFinalized();
    error InvalidPayee();
    error InvalidSignature();
    error AmountExceedsDeposit();
    error AmountNotIncreasing();
    error ZeroDeposit();
    error DepositOverflow();
    error NotPayer();
    error NotPayee();
    error TransferFailed();
    error CloseNotReady();
    error NonceMismatch();

    /// How long the payee has after `requestClose`, in seconds.
    uint64 public constant CLOSE_GRACE_PERIOD = 15 minutes;

    bytes32 public constant VOUCHER_TYPEHASH = keccak256("Voucher(bytes32 channelId,uint128 cumulativeAmount)");

    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    /// Half the order of secp256k1: of the two signatures with one meaning, the one with the lower s counts.
    uint256 private constant HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    bytes32 private immutable NAME_HASH;
    bytes32 private immutable SEPARATOR;
    uint256 private immutable CHAIN_ID;
    ISignatureVerifier private immutable VERIFIER;

    mapping(bytes32 channelId => Channel) private _channels;

    /// @param name What the payment method calls the domain of its vouchers.
    /// @param verifier Where the chain checks signatures that are not ECDSA's; 0 where it does not.
    constructor(string memory name, address verifier) {
        NAME_HASH = keccak256(bytes(name));
        VERIFIER = ISignatureVerifier(verifier);
        CHAIN_ID = block.chainid;
        SEPARATOR = _separator();
    }

    // --- the payer's side ---------------------------------------------------------------------------

    /// Opens a channel with `deposit`, which the caller has approved.
    function open(address payee, address token, uint128 deposit, bytes32 salt, address authorizedSigner)
        external
        returns (bytes32 channelId)
    {
        channelId = _open(msg.sender, payee, token, deposit, salt, authorizedSigner);
        _take(token, deposit, abi.encodeCall(IToken.transferFrom, (msg.sender, address(this), deposit)));
    }

    /// Opens a channel of `from`'s with what `from` has signed away for exactly this channel. Anybody may
    /// hand it in, and pays the gas.
    function openWithAuthorization(
        address payee,
        address token,
        uint128 deposit,
        bytes32 salt,
        address authorizedSigner,
        address from,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external returns (bytes32 channelId) {
        if (nonce != keccak256(abi.encode(from, payee, token, salt, authorizedSigner))) revert NonceMismatch();
        channelId = _open(from, payee, token, deposit, salt, authorizedSigner);
        _takeSigned(token, from, deposit, validAfter, validBefore, nonce, signature);
    }

    /// Adds to the deposit, and takes a request to close back.
    function topUp(bytes32 channelId, uint128 additionalDeposit) external {
        _topUpMine(channelId, additionalDeposit);
    }

    /// The same, for clients that write the amount with the width of a token's.
    function topUp(bytes32 channelId, uint256 additionalDeposit) external {
        _topUpMine(channelId, additionalDeposit);
    }

    /// The same with what `from`, the payer, has signed away for exactly this. Anybody may hand it in.
    function topUpWithAuthorization(
        bytes32 channelId,
        uint128 additionalDeposit,
        address from,
        bytes32 topUpSalt,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external {
        if (nonce != keccak256(abi.encode(channelId, additionalDeposit, from, topUpSalt))) revert NonceMismatch();
        address token = _topUp(channelId, from, additionalDeposit);
        _takeSigned(token, from, additionalDeposit, validAfter, validBefore, nonce, signature);
    }

    /// Asks for what is left. The payee has `CLOSE_GRACE_PERIOD` from now on.
    function requestClose(bytes32 channelId) external {
        Channel storage channel = _live(channelId);
        if (msg.sender != channel.payer) revert NotPayer();
        // Asking again changes nothing: the first request counts.
        if (channel.closeRequestedAt != 0) return;
        channel.closeRequestedAt = uint64(block.timestamp);
        emit CloseRequested(channelId, channel.payer, channel.payee, block.timestamp + CLOSE_GRACE_PERIOD);
    }

    /// Takes what is left, once the payee has had its time.
    function withdraw(bytes32 channelId) external {
        Channel storage channel = _live(channelId);
        if (msg.sender != channel.payer) revert NotPayer();
        uint256 requestedAt = channel.closeRequestedAt;
        if (requestedAt == 0 || block.timestamp < requestedAt + CLOSE_GRACE_PERIOD) revert CloseNotReady();
        _finish(channelId, channel, channel.settled);
    }

    // --- the payee's side ---------------------------------------------------------------------------

    /// Takes what a voucher says beyond what was taken before.
    function settle(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external {
        Channel storage channel = _live(channelId);
        if (msg.sender != channel.payee) revert NotPayee();
        uint128 settled = channel.settled;
        if (cumulativeAmount <= settled) revert AmountNotIncreasing();
        if (cumulativeAmount > channel.deposit) revert AmountExceedsDeposit();
        _verify(channelId, channel, cumulativeAmount, signature);
        channel.settled = cumulativeAmount;
        uint128 delta = cumulativeAmount - settled;
        emit Settled(channelId, channel.payer, channel.payee, cumulativeAmount, delta, cumulativeAmount);
        _give(channel.token, channel.payee, delta);
    }

    /// Takes what a last voucher says and gives the payer the rest. A payee that takes nothing beyond what
    /// it has, gives up the rest and needs no voucher for it.
    function close(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external {
        Channel storage channel = _live(channelId);
        if (msg.sender != channel.payee) revert NotPayee();
        uint128 settled = channel.settled;
        if (cumulativeAmount > channel.deposit) revert AmountExceedsDeposit();
        if (cumulativeAmount > settled) {
            _verify(channelId, channel, cumulativeAmount, signature);
            settled = cumulativeAmount;
        }
        _finish(channelId, channel, settled);
    }

    // --- what anybody may ask -----------------------------------------------------------------------

    function getChannel(bytes32 channelId) external view returns (Channel memory) {
        return _channels[channelId];
    }

    function getChannelsBatch(bytes32[] calldata channelIds) external view returns (Channel[] memory channels) {
        channels = new Channel[](channelIds.length);
        for (uint256 i = 0; i < channelIds.length; i++) {
            channels[i] = _channels[channelIds[i]];
        }
    }

    function computeChannelId(address payer, address payee, address token, bytes32 salt, address authorizedSigner)
        public
        view
        returns (bytes32)
    {
        return keccak256(abi.encode(payer, payee, token, salt, authorizedSigner, address(this), block.chainid));
    }

    function getVoucherDigest(bytes32 channelId, uint128 cumulativeAmount) public view returns (bytes32) {
        bytes32 voucher = keccak256(abi.encode(VOUCHER_TYPEHASH, channelId, cumulativeAmount));
        return keccak256(abi.encodePacked(hex"1901", domainSeparator(), voucher));
    }

    function domainSeparator() public view returns (bytes32) {
        // A chain that splits in two has two numbers from then on.
        return block.chainid == CHAIN_ID ? SEPARATOR : _separator();
    }

    // --- within -------------------------------------------------------------------------------------

    function _live(bytes32 channelId) private view returns (Channel storage channel) {
        channel = _channels[channelId];
        if (channel.payer == address(0)) revert ChannelNotFound();
        if (channel.finalized) revert ChannelFinalized();
    }

    function _open(
        address payer,
        address payee,
        address token,
        uint128 deposit,
        bytes32 salt,
        address authorizedSigner
    ) private returns (bytes32 channelId) {
        if (payee == address(0)) revert InvalidPayee();
        if (deposit == 0) revert ZeroDeposit();
        channelId = computeChannelId(payer, payee, token, salt, authorizedSigner);
        Channel storage channel = _channels[channelId];
        if (channel.payer != address(0)) revert ChannelAlreadyExists();
        channel.payer = payer;
        channel.payee = payee;
        channel.token = token;
        if (authorizedSigner != address(0)) channel.authorizedSigner = authorizedSigner;
        channel.deposit = deposit;
        emit ChannelOpened(channelId, payer, payee, token, authorizedSigner, deposit);
    }

    function _topUpMine(bytes32 channelId, uint256 additionalDeposit) private {
        address token = _topUp(channelId, msg.sender, additionalDeposit);
        _take(
            token,
            additionalDeposit,
            abi.encodeCall(IToken.transferFrom, (msg.sender, address(this), additionalDeposit))
        );
    }

    function _topUp(bytes32 channelId, address payer, uint256 additionalDeposit) private returns (address token) {
        Channel storage channel = _live(channelId);
        if (payer != channel.payer) revert NotPayer();
        if (additionalDeposit == 0) revert ZeroDeposit();
        uint256 newDeposit = additionalDeposit + channel.deposit;
        if (newDeposit > type(uint128).max) revert DepositOverflow();
        channel.deposit = uint128(newDeposit);
        if (channel.closeRequestedAt != 0) {
            channel.closeRequestedAt = 0;
            emit CloseRequestCancelled(channelId, payer, channel.payee);
        }
        emit TopUp(channelId, payer, channel.payee, additionalDeposit, newDeposit);
        token = channel.token;
    }

    /// Ends a channel at `settled`: the payee gets what it has not got yet, the payer the rest.
    function _finish(bytes32 channelId, Channel storage channel, uint128 settled) private {
        uint128 delta = settled - channel.settled;
        uint128 rest = channel.deposit - settled;
        channel.finalized = true;
        if (delta != 0) channel.settled = settled;
        emit ChannelClosed(channelId, channel.payer, channel.payee, settled, rest);
        _give(channel.token, channel.payee, delta);
        _give(channel.token, channel.payer, rest);
    }

    function _verify(bytes32 channelId, Channel storage channel, uint128 cumulativeAmount, bytes calldata signature)
        private
        view
    {
        address signer = channel.authorizedSigner;
        if (signer == address(0)) signer = channel.payer;
        if (!_signed(signer, getVoucherDigest(channelId, cumulativeAmount), signature)) revert InvalidSignature();
    }

    /// Whether `signature` is `signer`'s: an account's own (65 bytes, or 64 as in EIP-2098), a contract's
    /// (ERC-1271), or of a kind that the chain checks itself.
    function _signed(address signer, bytes32 digest, bytes calldata signature) private view returns (bool) {
        uint256 length = signature.length;
        if (length == 64 || length == 65) {
            if (_recover(digest, signature) == signer) return true;
        } else if (address(VERIFIER) != address(0) && signer.code.length == 0) {
            try VERIFIER.verify(signer, digest, signature) returns (bool valid) {
                return valid;
            } catch {
                return false;
            }
        }
        if (signer.code.length == 0) return false;
        (bool answered, bytes memory answer) =
            signer.staticcall(abi.encodeCall(IContractSigner.isValidSignature, (digest, signature)));
        return answered && answer.length == 32
            && abi.decode(answer, (bytes32)) == bytes32(IContractSigner.isValidSignature.selector);
    }

    /// Whose signature it is; 0, which is nobody, for one that is not canonical.
    function _recover(bytes32 digest, bytes calldata signature) private pure returns (address) {
        bytes32 r = bytes32(signature[0:32]);
        uint256 s = uint256(bytes32(signature[32:64]));
        uint8 v;
        if (signature.length == 64) {
            v = 27 + uint8(s >> 255);
            s &= type(uint256).max >> 1;
        } else {
            v = uint8(signature[64]);
        }
        if (s > HALF_ORDER || (v != 27 && v != 28)) return address(0);
        // No signer is 0, so that 0 equals none.
        return ecrecover(digest, v, r, bytes32(s));
    }

    function _separator() private view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN_TYPEHASH, NAME_HASH, keccak256("1"), block.chainid, address(this)));
    }

    /// Takes exactly `amount`, by a call of the token. A token that delivers less would let one channel
    /// spend another's deposit.
    function _take(address token, uint256 amount, bytes memory data) private {
        uint256 before = IToken(token).balanceOf(address(this));
        _call(token, data);
        if (IToken(token).balanceOf(address(this)) - before != amount) revert TransferFailed();
    }

    /// Takes what `from` has signed away.
    function _takeSigned(
        address token,
        address from,
        uint256 amount,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) private {
        _take(
            token,
            amount,
            abi.encodeCall(
                IAuthorizedToken.receiveWithAuthorization,
                (from, address(this), amount, validAfter, validBefore, nonce, signature)
            )
        );
    }

    function _give(address token, address to, uint256 amount) private {
        if (amount != 0) _call(token, abi.encodeCall(IToken.transfer, (to, amount)));
    }

    /// Calls a token. Old ones answer nothing where they succeed.
    function _call(address token, bytes memory data) private {
        (bool succeeded, bytes memory answer) = token.call(data);
        if (!succeeded) revert TransferFailed();
        bool agreed = answer.length == 0 ? token.code.length != 0 : abi.decode(answer, (uint256)) == 1;
        if (!agreed) revert TransferFailed();
    }
}
