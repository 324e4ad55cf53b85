// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IToken, ISignatureVerifier} from "./FarthingEscrow.sol";

/// A STAND-IN for Tempo's channel reserve (TIP-1034), for tests on chains that do not have it yet.
///
/// The reserve is part of the chain and knows which transaction calls it. This contract does not: a test
/// puts its code where the reserve would be, writes the hash of each opening transaction into
/// `openingHash` before the transaction is mined, and lets payers approve the token, which the reserve
/// itself needs no approval for. What it shows is that our side speaks the reserve's words and sums; what
/// it cannot show is what the chain itself does. Never deploy it.
contract ReserveStandIn {
    struct ChannelDescriptor {
        address payer;
        address payee;
        address operator;
        address token;
        bytes32 salt;
        address authorizedSigner;
        bytes32 expiringNonceHash;
    }

    struct ChannelState {
        uint96 settled;
        uint96 deposit;
        uint32 closeRequestedAt;
    }

    struct Channel {
        ChannelDescriptor descriptor;
        ChannelState state;
    }

    event ChannelOpened(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        address operator,
        address token,
        address authorizedSigner,
        bytes32 salt,
        bytes32 expiringNonceHash,
        uint96 deposit
    );
    event Settled(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        uint96 cumulativeAmount,
        uint96 deltaPaid,
        uint96 newSettled
    );
    event TopUp(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        uint96 additionalDeposit,
        uint96 newDeposit
    );
    event CloseRequested(
        bytes32 indexed channelId, address indexed payer, address indexed payee, uint256 closeGraceEnd
    );
    event CloseRequestCancelled(bytes32 indexed channelId, address indexed payer, address indexed payee);
    event ChannelClosed(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        uint96 settledToPayee,
        uint96 refundedToPayer
    );

    error ChannelAlreadyExists();
    error ChannelNotFound();
    error NotPayer();
    error NotPayeeOrOperator();
    error InvalidPayee();
    error ZeroDeposit();
    error ExpiringNonceHashNotSet();
    error InvalidSignature();
    error AmountExceedsDeposit();
    error AmountNotIncreasing();
    error CaptureAmountInvalid();
    error CloseNotReady();
    error DepositOverflow();

    uint64 public constant CLOSE_GRACE_PERIOD = 15 minutes;
    bytes32 public constant VOUCHER_TYPEHASH = keccak256("Voucher(bytes32 channelId,uint96 cumulativeAmount)");
    ISignatureVerifier private constant VERIFIER = ISignatureVerifier(0x5165300000000000000000000000000000000000);

    /// The test's word for which transaction is opening a channel, by its payer (slot 0).
    mapping(address payer => bytes32) public openingHash;
    mapping(bytes32 channelId => ChannelState) private _states;

    function open(
        address payee,
        address operator,
        address token,
        uint96 deposit,
        bytes32 salt,
        address authorizedSigner
    ) external returns (bytes32 channelId) {
        if (payee == address(0)) revert InvalidPayee();
        if (deposit == 0) revert ZeroDeposit();
        bytes32 hash = openingHash[msg.sender];
        if (hash == 0) revert ExpiringNonceHashNotSet();
        channelId = computeChannelId(msg.sender, payee, operator, token, salt, authorizedSigner, hash);
        if (_states[channelId].deposit != 0) revert ChannelAlreadyExists();
        _states[channelId].deposit = deposit;
        IToken(token).transferFrom(msg.sender, address(this), deposit);
        emit ChannelOpened(
            channelId, msg.sender, payee, operator, token, authorizedSigner, salt, hash, deposit
        );
    }

    function topUp(ChannelDescriptor calldata descriptor, uint96 additionalDeposit) external {
        (bytes32 channelId, ChannelState storage state) = _live(descriptor);
        if (msg.sender != descriptor.payer) revert NotPayer();
        if (uint256(state.deposit) + additionalDeposit > type(uint96).max) revert DepositOverflow();
        state.deposit += additionalDeposit;
        if (state.closeRequestedAt != 0) {
            state.closeRequestedAt = 0;
            emit CloseRequestCancelled(channelId, descriptor.payer, descriptor.payee);
        }
        if (additionalDeposit != 0) {
            IToken(descriptor.token).transferFrom(msg.sender, address(this), additionalDeposit);
        }
        emit TopUp(channelId, descriptor.payer, descriptor.payee, additionalDeposit, state.deposit);
    }

    function settle(ChannelDescriptor calldata descriptor, uint96 cumulativeAmount, bytes calldata signature)
        external
    {
        (bytes32 channelId, ChannelState storage state) = _live(descriptor);
        _onlyPayee(descriptor);
        if (cumulativeAmount <= state.settled) revert AmountNotIncreasing();
        if (cumulativeAmount > state.deposit) revert AmountExceedsDeposit();
        _verify(descriptor, channelId, cumulativeAmount, signature);
        uint96 delta = cumulativeAmount - state.settled;
        state.settled = cumulativeAmount;
        IToken(descriptor.token).transfer(descriptor.payee, delta);
        emit Settled(
            channelId, descriptor.payer, descriptor.payee, cumulativeAmount, delta, cumulativeAmount
        );
    }

    function close(
        ChannelDescriptor calldata descriptor,
        uint96 cumulativeAmount,
        uint96 captureAmount,
        bytes calldata signature
    ) external {
        (bytes32 channelId, ChannelState storage state) = _live(descriptor);
        _onlyPayee(descriptor);
        if (captureAmount < state.settled || captureAmount > cumulativeAmount) revert CaptureAmountInvalid();
        if (captureAmount > state.deposit) revert AmountExceedsDeposit();
        if (captureAmount > state.settled) _verify(descriptor, channelId, cumulativeAmount, signature);
        _finish(descriptor, channelId, state, captureAmount);
    }

    function requestClose(ChannelDescriptor calldata descriptor) external {
        (bytes32 channelId, ChannelState storage state) = _live(descriptor);
        if (msg.sender != descriptor.payer) revert NotPayer();
        if (state.closeRequestedAt != 0) return;
        state.closeRequestedAt = uint32(block.timestamp);
        emit CloseRequested(
            channelId, descriptor.payer, descriptor.payee, block.timestamp + CLOSE_GRACE_PERIOD
        );
    }

    function withdraw(ChannelDescriptor calldata descriptor) external {
        (bytes32 channelId, ChannelState storage state) = _live(descriptor);
        if (msg.sender != descriptor.payer) revert NotPayer();
        uint256 requestedAt = state.closeRequestedAt;
        if (requestedAt == 0 || block.timestamp < requestedAt + CLOSE_GRACE_PERIOD) revert CloseNotReady();
        _finish(descriptor, channelId, state, state.settled);
    }

    function getChannel(ChannelDescriptor calldata descriptor) external view returns (Channel memory) {
        return Channel(descriptor, _states[_id(descriptor)]);
    }

    function getChannelState(bytes32 channelId) external view returns (ChannelState memory) {
        return _states[channelId];
    }

    function getChannelStatesBatch(bytes32[] calldata channelIds)
        external
        view
        returns (ChannelState[] memory states)
    {
        states = new ChannelState[](channelIds.length);
        for (uint256 i = 0; i < channelIds.length; i++) {
            states[i] = _states[channelIds[i]];
        }
    }

    function computeChannelId(
        address payer,
        address payee,
        address operator,
        address token,
        bytes32 salt,
        address authorizedSigner,
        bytes32 expiringNonceHash
    ) public view returns (bytes32) {
        return keccak256(
            abi.encode(
                payer,
                payee,
                operator,
                token,
                salt,
                authorizedSigner,
                expiringNonceHash,
                address(this),
                block.chainid
            )
        );
    }

    function getVoucherDigest(bytes32 channelId, uint96 cumulativeAmount) public view returns (bytes32) {
        bytes32 voucher = keccak256(abi.encode(VOUCHER_TYPEHASH, channelId, cumulativeAmount));
        return keccak256(abi.encodePacked(hex"1901", domainSeparator(), voucher));
    }

    function domainSeparator() public view returns (bytes32) {
        bytes32 domain =
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        return keccak256(
            abi.encode(domain, keccak256("TIP20 Channel Reserve"), keccak256("1"), block.chainid, address(this))
        );
    }

    function _id(ChannelDescriptor calldata it) private view returns (bytes32) {
        return computeChannelId(
            it.payer, it.payee, it.operator, it.token, it.salt, it.authorizedSigner, it.expiringNonceHash
        );
    }

    function _live(ChannelDescriptor calldata descriptor)
        private
        view
        returns (bytes32 channelId, ChannelState storage state)
    {
        channelId = _id(descriptor);
        state = _states[channelId];
        if (state.deposit == 0) revert ChannelNotFound();
    }

    function _onlyPayee(ChannelDescriptor calldata descriptor) private view {
        bool operates = descriptor.operator != address(0) && msg.sender == descriptor.operator;
        if (msg.sender != descriptor.payee && !operates) revert NotPayeeOrOperator();
    }

    function _verify(
        ChannelDescriptor calldata descriptor,
        bytes32 channelId,
        uint96 cumulativeAmount,
        bytes calldata signature
    ) private view {
        address signer = descriptor.authorizedSigner;
        if (signer == address(0)) signer = descriptor.payer;
        try VERIFIER.verify(signer, getVoucherDigest(channelId, cumulativeAmount), signature) returns (bool valid) {
            if (!valid) revert InvalidSignature();
        } catch {
            revert InvalidSignature();
        }
    }

    /// The reserve forgets a channel that is over.
    function _finish(
        ChannelDescriptor calldata descriptor,
        bytes32 channelId,
        ChannelState storage state,
        uint96 capture
    ) private {
        uint96 delta = capture - state.settled;
        uint96 rest = state.deposit - capture;
        delete _states[channelId];
        if (delta != 0) IToken(descriptor.token).transfer(descriptor.payee, delta);
        if (rest != 0) IToken(descriptor.token).transfer(descriptor.payer, rest);
        emit ChannelClosed(channelId, descriptor.payer, descriptor.payee, capture, rest);
    }
}
